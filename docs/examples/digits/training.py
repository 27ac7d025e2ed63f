"""One training loop for all tasks and losses: a progress bar, and the named terms during training."""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from matplotlib.axes import Axes
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from losses_core import CombinedLoss, LossTerms

LINES = 6
"""How often the terms are printed."""


class Task(ABC):
    """What is trained on what, and how its success is measured."""

    title: ClassVar[str]
    """What is hard about it, in a line."""
    metric: ClassVar[str]
    """At most eight characters, for tables of 80 columns."""
    goal: ClassVar[float]
    """The score that the loss of the file has to reach."""
    epochs: ClassVar[int]
    batch_size: ClassVar[int] = 64
    learning_rate: ClassVar[float] = 2e-3

    model: nn.Module
    train: TensorDataset

    @abstractmethod
    def terms(self, criterion: CombinedLoss, batch: tuple[Tensor, ...]) -> LossTerms:
        """The terms of the loss for one batch of the training data."""

    @abstractmethod
    def score(self) -> float:
        """The metric on the test data, 0 to 1."""

    @abstractmethod
    def draw(self, axes: Axes, trained: Mapping[str, "Task"]) -> None:
        """Test data and what the model makes of them; `trained` holds the same task after each loss, this one last."""


@dataclass
class History:
    """One value per epoch: the mean of each term over the training data, the score on the test data."""

    terms: dict[str, list[float]] = field(default_factory=dict)
    score: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, means: dict[str, float], score: float) -> None:
        for name, value in means.items():
            self.terms.setdefault(name, []).append(value)
        self.score.append(score)

    def row(self, metric: str, header: bool = False) -> str:
        """The last epoch as a row of a table, or the row above it."""
        names = [name for name in self.terms if name != "total" or len(self.terms) > 2]  # of one term it is the total
        cells = [name if header else f"{self.terms[name][-1]:.4f}" for name in names]
        widths = [max(len(name), 7) for name in names]
        row = "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        score = metric if header else f"{self.score[-1]:.1%}"
        return f"{'epoch' if header else len(self.score):>5}  {row}  {score:>8}"


def fit(task: Task, criterion: CombinedLoss, console: Console, label: str, print_terms: bool, epochs: int) -> History:
    """Train with Adam and one cycle of the learning rate. The criterion's own parameters, if any, are trained too."""
    loader = DataLoader(task.train, task.batch_size, shuffle=True)
    parameters = [*task.model.parameters(), *criterion.parameters()]
    optimizer = torch.optim.AdamW(parameters, task.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, task.learning_rate, epochs * len(loader))
    history, started = History(), time.perf_counter()
    columns = TextColumn("{task.description:<37}"), BarColumn(18), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(label, total=epochs * len(loader))
        for epoch in range(1, epochs + 1):
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
            if print_terms and (epoch == 1 or epoch % max(1, epochs // (LINES - 1)) == 0):
                if epoch == 1:
                    progress.console.print(history.row(task.metric, header=True), style="dim", highlight=False)
                progress.console.print(history.row(task.metric), highlight=False)
    history.seconds = time.perf_counter() - started
    return history
