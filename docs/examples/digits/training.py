"""One training loop for all tasks: a progress bar, and the named terms as they fall."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from matplotlib.axes import Axes
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from losses_core import CombinedLoss, LossTerms
from losses_core.config import Config

LINES = 6  # how often the terms are printed
SEEDS = 3


class Task(ABC):
    """What is trained on what, and how its success is measured."""

    metric: ClassVar[str]
    goal: ClassVar[float]
    epochs: ClassVar[int]
    batch_size: ClassVar[int] = 64
    learning_rate: ClassVar[float] = 2e-3
    has_to_win: ClassVar[bool] = True
    """Whether the loss of the file has to be better, on average, than each of `others`."""

    model: nn.Module
    train: TensorDataset

    @classmethod
    def others(cls, loss: Mapping[str, Any]) -> dict[str, Config]:
        """Losses to compare with that of the file, by name: all are trained from the same seeds."""
        return {}

    @abstractmethod
    def terms(self, criterion: CombinedLoss, batch: tuple[Tensor, ...]) -> LossTerms:
        """The terms of the loss for one batch of the training data."""

    @abstractmethod
    def score(self) -> float:
        """The metric on the test data, 0 to 1."""

    @abstractmethod
    def draw(self, axes: Axes) -> None:
        """Some of the test data and what the model makes of them."""


@dataclass
class History:
    """One value per epoch: the mean of each term over the training data, the score on the test data."""

    terms: dict[str, list[float]] = field(default_factory=dict)
    score: list[float] = field(default_factory=list)

    def add(self, means: dict[str, float], score: float) -> None:
        for name, value in means.items():
            self.terms.setdefault(name, []).append(value)
        self.score.append(score)

    def line(self, metric: str) -> str:
        terms = "   ".join(f"{name} {values[-1]:.4f}" for name, values in self.terms.items())
        return f"epoch {len(self.score):>3}   {terms}   {metric} {self.score[-1]:.1%}"


def fit(task: Task, criterion: CombinedLoss, console: Console) -> History:
    """Train with Adam and one cycle of the learning rate. The criterion's own parameters, if any, are trained too.

    A quiet console prints nothing.
    """
    loader = DataLoader(task.train, task.batch_size, shuffle=True)
    parameters = [*task.model.parameters(), *criterion.parameters()]
    optimizer = torch.optim.AdamW(parameters, task.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, task.learning_rate, task.epochs * len(loader))
    history = History()
    columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("steps"), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=task.epochs * len(loader))
        for epoch in range(1, task.epochs + 1):
            task.model.train()
            sums: dict[str, Tensor] = {}
            for batch in loader:
                terms = task.terms(criterion, tuple(batch))
                optimizer.zero_grad()
                terms.total.backward()
                optimizer.step()
                schedule.step()
                for name, value in (*terms.items(), ("total", terms.total)):
                    sums[name] = sums.get(name, torch.zeros(())) + value.detach() * len(batch[0])
                progress.advance(bar)
            history.add({name: float(value) / len(task.train) for name, value in sums.items()}, task.score())
            if epoch == 1 or epoch % (task.epochs // (LINES - 1)) == 0:
                progress.console.print(history.line(task.metric), highlight=False)
    return history
