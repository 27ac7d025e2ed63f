"""A small convolutional network that tells which digit an 8 × 8 image shows."""

from collections.abc import Mapping

import torch
from matplotlib.axes import Axes
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from losses_core import CombinedLoss, LossTerms

from ..data import load
from ..plot import tile
from ..training import Task


class Classification(Task):
    metric = "accuracy"

    def __init__(self) -> None:
        (images, labels), self.test = load()
        self.train = TensorDataset(images, labels)
        self.model = nn.Sequential(
            *(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Dropout(0.2), nn.Linear(256, 10)),
        )

    def terms(self, criterion: CombinedLoss, batch: tuple[Tensor, ...]) -> LossTerms:
        images, labels = batch
        return criterion.terms(self.model(images), labels)

    def score(self) -> float:
        return float((self._predict().argmax(1) == self.test[1]).float().mean())

    def draw(self, axes: Axes, trained: Mapping[str, Task]) -> None:
        """The test digits the model is least sure of, mistakes in red."""
        images, labels = self.test
        probability = self._predict().softmax(1)
        order = probability.gather(1, labels[:, None]).squeeze(1).argsort()
        guess = probability.argmax(1)
        pairs = zip(guess[order].tolist(), labels[order].tolist(), strict=True)
        captions = [(str(y) if y == t else f"{y}, is {t}", y == t) for y, t in pairs]
        tile(axes, images[order, 0].numpy(), captions, title="hardest test digits; red: mistakes")

    @torch.no_grad()
    def _predict(self) -> Tensor:
        self.model.eval()
        logits: Tensor = self.model(self.test[0])
        return logits
