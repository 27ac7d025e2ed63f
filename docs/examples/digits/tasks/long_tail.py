"""Which digit is it, where some digits are rare in the training data? All of them count alike on the test data."""

from collections.abc import Mapping
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter
from torch import Tensor
from torch.utils.data import TensorDataset

from losses_core import load_config

from ..plot import colours
from ..training import Task
from ._classify import Classification

COUNTS: list[int] = load_config(Path(__file__).parents[2] / "long_tail.yaml")["class_counts"]


class LongTail(Classification):
    title = f"long tail: {COUNTS[0]} images of the digit 0, {COUNTS[-1]} of the 9"
    goal = 0.8
    epochs = 40

    def __init__(self) -> None:
        super().__init__()
        images, labels = self.train.tensors
        kept = torch.cat([(labels == digit).nonzero()[:count, 0] for digit, count in enumerate(COUNTS)])
        self.train = TensorDataset(images[kept], labels[kept])

    def draw(self, axes: Axes, trained: Mapping[str, Task]) -> None:
        """The accuracy of each digit, after each loss."""
        for (label, task), colour in zip(trained.items(), colours(len(trained)), strict=True):
            assert isinstance(task, LongTail)
            axes.plot(range(10), task.accuracies(), "o-", color=colour, linewidth=1, markersize=5, label=label)
        axes.set_xticks(range(10), [f"{digit}\n{count}" for digit, count in enumerate(COUNTS)])
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set(ylim=(0, 1.02), xlabel="digit, and its number of training images", title="accuracy of each digit")

    def accuracies(self) -> Tensor:
        """That of each digit alone."""
        right, labels = self._predict().argmax(1) == self.test[1], self.test[1]
        return torch.stack([right[labels == digit].float().mean() for digit in range(10)])


def build() -> LongTail:
    return LongTail()
