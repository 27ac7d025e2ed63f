"""Which pixel belongs to which digit? A small U-Net on canvases of one to three digits; eleven classes."""

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


class UNet(nn.Module):
    """From half the resolution two levels down and up again, skips between: (N, 1, H, W) → (N, 11, H, W)."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.stem = _layer(1, width, stride=2)
        self.down = nn.ModuleList([_block(width, width), _block(width, 2 * width), _block(2 * width, 3 * width)])
        self.up = nn.ModuleList([_block(5 * width, 2 * width), _block(3 * width, width)])
        self.pool, self.grow = nn.MaxPool2d(2), nn.Upsample(scale_factor=2)
        self.head = nn.Sequential(nn.Conv2d(width, 4 * 11, 1), nn.PixelShuffle(2))  # four pixels at a time

    def forward(self, x: Tensor) -> Tensor:
        fine = self.down[0](self.stem(x))
        middle = self.down[1](self.pool(fine))
        coarse = self.down[2](self.pool(middle))
        middle = self.up[0](torch.cat([self.grow(coarse), middle], 1))
        fine = self.up[1](torch.cat([self.grow(middle), fine], 1))
        logits: Tensor = self.head(fine)
        return logits


def _layer(channels: int, width: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, stride, padding=1), nn.BatchNorm2d(width), nn.ReLU())


def _block(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(_layer(channels, width), _layer(width, width))


class Segmentation(Task):
    metric = "mean IoU"
    goal = 0.8
    epochs = 15
    batch_size = 32
    learning_rate = 1e-2

    def __init__(self) -> None:
        train, test = load()
        made = paste(*train, count=1000, seed=0)
        self.train = TensorDataset(made.images, made.pixels)
        self.test = paste(*test, count=150, seed=1)
        self.model = UNet()

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
