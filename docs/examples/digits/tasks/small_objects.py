"""Which pixels are ink, where there is little of it under much noise? Canvases of one to three small digits."""

from collections.abc import Mapping
from typing import Any

import torch
from matplotlib.axes import Axes
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from losses_core import CombinedLoss, LossTerms
from losses_core.config import Config

from ..canvas import Canvases, paste
from ..data import load
from ..plot import INK
from ..training import Task

SIDES = (8, 13)
NOISE = 0.45
SHOWN = 4


class SmallObjects(Task):
    metric = "IoU of the ink"
    goal = 0.5
    epochs = 9
    batch_size = 32
    learning_rate = 1e-2

    def __init__(self) -> None:
        train, test = load()
        made = _noisy(paste(*train, count=300, seed=0, sides=SIDES), seed=0)
        self.train = TensorDataset(made.images, (made.pixels > 0).long())
        self.test = _noisy(paste(*test, count=100, seed=1, sides=SIDES), seed=1)
        self.model = nn.Sequential(
            *(nn.Conv2d(1, 8, 5, padding=2), nn.BatchNorm2d(8), nn.ReLU()),
            *(nn.Conv2d(8, 8, 5, padding=2), nn.BatchNorm2d(8), nn.ReLU()),
            nn.Conv2d(8, 2, 5, padding=2),
        )

    @classmethod
    def others(cls, loss: Mapping[str, Any]) -> dict[str, Config]:
        return {"CrossEntropyLoss": "CrossEntropyLoss"}

    def terms(self, criterion: CombinedLoss, batch: tuple[Tensor, ...]) -> LossTerms:
        images, ink = batch
        return criterion.terms(self.model(images), ink)

    def score(self) -> float:
        """Intersection over union of the ink over all test pixels."""
        predicted, truth = self._predict(), self.test.pixels > 0
        return float((predicted & truth).sum() / (predicted | truth).sum())

    def draw(self, axes: Axes) -> None:
        """Canvases, their ink, and what the model takes for ink."""
        rows = (1 - self.test.images[:SHOWN, 0].clamp(0, 1), ~(self.test.pixels[:SHOWN] > 0), ~self._predict()[:SHOWN])
        side = self.test.images.shape[-1]
        for row, images in enumerate(rows):
            for column, image in enumerate(images):
                left, top = column * (side + 2), row * (side + 2)
                axes.imshow(image, cmap="gray", vmin=0, vmax=1, extent=(left, left + side, top + side, top))
        for row, text in enumerate(("image", "truth", "model")):
            axes.text(-3, (row + 0.5) * (side + 2), text, ha="right", va="center", color=INK)
        axes.set(xlim=(0, SHOWN * (side + 2)), ylim=(3 * (side + 2), -2), title="four test canvases")
        axes.axis("off")

    @torch.no_grad()
    def _predict(self) -> Tensor:
        self.model.eval()
        ink: Tensor = self.model(self.test.images).argmax(1) > 0
        return ink


def _noisy(made: Canvases, seed: int) -> Canvases:
    noise = torch.randn(made.images.shape, generator=torch.Generator().manual_seed(seed))
    made.images = made.images + NOISE * noise
    return made


def build() -> Task:
    return SmallObjects()
