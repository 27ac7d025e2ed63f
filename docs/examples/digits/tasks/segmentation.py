"""Which pixel belongs to which digit? Canvases of one to three digits; eleven classes."""

import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from losses_core import CombinedLoss, LossTerms

from ..canvas import paste
from ..data import load
from ..plot import CLASSES, INK
from ..training import Task

SHOWN = 4


class Net(nn.Module):
    """The digit from a quarter of the resolution, the ink from the full one: (N, 1, H, W) → (N, 11, H, W)."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.stem = nn.Sequential(_layer(1, width // 2, 2), _layer(width // 2, width, 2), _layer(width, width))
        self.around = nn.Sequential(
            nn.MaxPool2d(2), _layer(width, 2 * width), _layer(2 * width, 2 * width), nn.Upsample(scale_factor=2)
        )
        self.digit = nn.Sequential(
            *(_layer(3 * width, 2 * width), nn.Conv2d(2 * width, 11, 1), nn.Upsample(scale_factor=4, mode="bilinear"))
        )
        self.ink = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 11, 1))

    def forward(self, x: Tensor) -> Tensor:
        stem = self.stem(x)
        digit: Tensor = self.digit(torch.cat([stem, self.around(stem)], 1))
        return digit + self.ink(x)


def _layer(channels: int, width: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, stride, padding=1), nn.BatchNorm2d(width), nn.ReLU())


class Segmentation(Task):
    metric = "mean IoU"
    goal = 0.8
    epochs = 7
    batch_size = 32
    learning_rate = 1e-2

    def __init__(self) -> None:
        train, test = load()
        made = paste(*train, count=1000, seed=0)
        self.train = TensorDataset(made.images, made.pixels)
        self.test = paste(*test, count=150, seed=1)
        self.model = Net()

    def terms(self, criterion: CombinedLoss, batch: tuple[Tensor, ...]) -> LossTerms:
        images, pixels = batch
        return criterion.terms(self.model(images), pixels)

    def score(self) -> float:
        """Intersection over union of each of the eleven classes over all test pixels, averaged."""
        predicted, truth = self._predict().flatten(), self.test.pixels.flatten()
        table = torch.bincount(11 * truth + predicted, minlength=121).view(11, 11)
        inter = table.diagonal()
        return float((inter / (table.sum(0) + table.sum(1) - inter)).mean())

    def draw(self, axes: Axes) -> None:
        """Canvases, their true pixels, and what the model makes of them."""
        rows = [self.test.pixels[:SHOWN], self._predict()[:SHOWN]]
        grey = self.test.images[:SHOWN, 0]
        columns = 2 * grey.shape[-1]
        for row, classes in enumerate(rows):
            for column in range(SHOWN):
                left, top = column % 2 * columns + row * grey.shape[-1], column // 2 * grey.shape[-1]
                extent = (left, left + grey.shape[-1] - 2, top + grey.shape[-1] - 2, top)
                axes.imshow(1 - grey[column], cmap="gray", vmin=-1, vmax=1, extent=extent)
                shown = torch.where(classes[column] > 0, classes[column] - 1, -1).numpy()
                axes.imshow(
                    shown, cmap=ListedColormap(CLASSES), vmin=-0.5, vmax=9.5, alpha=(shown >= 0) * 1.0, extent=extent
                )
        for left, text in ((0, "truth"), (1, "model"), (2, "truth"), (3, "model")):
            axes.text((left + 0.5) * grey.shape[-1], -2, text, ha="center", va="bottom", color=INK)
        axes.set(xlim=(0, 2 * columns), ylim=(2 * grey.shape[-1], -8), title="four test canvases")
        axes.axis("off")

    @torch.no_grad()
    def _predict(self) -> Tensor:
        self.model.eval()
        classes: Tensor = self.model(self.test.images).argmax(1)
        return classes


def build() -> Task:
    return Segmentation()
