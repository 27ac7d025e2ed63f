"""Which pixels are ink, where there is little of it under much noise? Canvases of one to three small digits."""

import functools
from collections.abc import Mapping

import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from losses_core import CombinedLoss, LossTerms

from ..canvas import Canvases, paste
from ..data import load
from ..plot import GRID, INK
from ..training import Task

SIDES = (8, 13)
NOISE = 0.45
SHOWN = 4
"""Canvases in the picture."""


class Segmentation(Task):
    title = "small digits under noise: one pixel in twenty is ink"
    metric = "ink IoU"
    goal = 0.5
    epochs = 24
    batch_size = 32
    learning_rate = 1e-2

    def __init__(self) -> None:
        made, self.test = _data()
        self.train = TensorDataset(made.images, (made.pixels > 0).long())
        self.model = nn.Sequential(
            *(nn.Conv2d(1, 8, 5, padding=2), nn.BatchNorm2d(8), nn.ReLU()),
            *(nn.Conv2d(8, 8, 5, padding=2), nn.BatchNorm2d(8), nn.ReLU()),
            nn.Conv2d(8, 2, 5, padding=2),
        )

    def terms(self, criterion: CombinedLoss, batch: tuple[Tensor, ...]) -> LossTerms:
        images, ink = batch
        return criterion.terms(self.model(images), ink)

    def score(self) -> float:
        """Intersection over union of the ink over all test pixels."""
        predicted, truth = self._predict(), self.test.pixels > 0
        return float((predicted & truth).sum() / (predicted | truth).sum())

    def draw(self, axes: Axes, trained: Mapping[str, Task]) -> None:
        """Canvases, their ink, and what the model takes for ink after the first loss and after the one of the file."""
        shown = {"image": 1 - self.test.images[:SHOWN, 0].clamp(0, 1), "truth": ~(self.test.pixels[:SHOWN] > 0)}
        for label in (next(iter(trained)), list(trained)[-1]):
            task = trained[label]
            assert isinstance(task, Segmentation)
            shown[label.removesuffix("Loss").replace("Entropy", "\nEntropy")] = ~task._predict()[:SHOWN]
        side = self.test.images.shape[-1]
        for row, (text, images) in enumerate(shown.items()):
            for column, image in enumerate(images):
                left, top = column * (side + 2), row * (side + 2)
                extent = (left, left + side, top + side, top)
                axes.imshow(image, cmap="gray", vmin=0, vmax=1, extent=extent)
                axes.add_patch(Rectangle((left, top), side, side, fill=False, edgecolor=GRID))
            axes.text(-3, (row + 0.5) * (side + 2), text, ha="right", va="center", color=INK)
        axes.set(xlim=(0, SHOWN * (side + 2)), ylim=(len(shown) * (side + 2), -2), title="test canvases; black: ink")
        axes.axis("off")

    @torch.no_grad()
    def _predict(self) -> Tensor:
        self.model.eval()
        ink: Tensor = self.model(self.test.images).argmax(1) > 0
        return ink


@functools.cache
def _data() -> tuple[Canvases, Canvases]:
    """Canvases to train on and to test on."""
    train, test = load()
    made, unseen = paste(*train, count=300, seed=0, sides=SIDES), paste(*test, count=100, seed=1, sides=SIDES)
    return _noisy(made, seed=0), _noisy(unseen, seed=1)


def _noisy(made: Canvases, seed: int) -> Canvases:
    noise = torch.randn(made.images.shape, generator=torch.Generator().manual_seed(seed))
    made.images = made.images + NOISE * noise
    return made


def build() -> Task:
    return Segmentation()
