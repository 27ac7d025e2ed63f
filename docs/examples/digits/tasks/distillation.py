"""A larger network teaches a small one that has labels for few images: what is the teacher worth?"""

import functools
from collections.abc import Mapping

import torch
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from losses_core import CombinedLoss, LossTerms, build_loss

from ..data import load
from ..plot import INK, colours
from ..training import Task


class Net(nn.Module):
    """Two convolutions and a linear layer; gives the features before the last layer too."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.MaxPool2d(2)),
        )
        self.head = nn.Linear(8 * width, 10)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = self.features(images)
        return {"features": features, "logits": self.head(features.flatten(1))}


LABELLED = 100


class Distillation(Task):
    title = f"a small student with {LABELLED} labels, and a teacher that had all"
    metric = "accuracy"
    goal = 0.94
    epochs = 20
    learning_rate = 5e-3

    def __init__(self) -> None:
        (images, labels), self.test = load()
        # the student sees all images, but the labels of a few of them only
        few = labels.clone()
        few[LABELLED:] = -100
        self.train = TensorDataset(images, few)
        self.teacher = _teacher()
        self.model = Net(width=6)

    def terms(self, criterion: CombinedLoss, batch: tuple[Tensor, ...]) -> LossTerms:
        images, labels = batch
        with torch.inference_mode():
            teacher = self.teacher(images)
        # the YAML file says which part of this each loss takes
        return criterion.terms({"student": self.model(images), "teacher": teacher, "labels": labels})

    def score(self) -> float:
        return self.accuracy(self.model)

    def draw(self, axes: Axes, trained: Mapping[str, Task]) -> None:
        """The accuracy of the teacher, and of the student after each loss."""
        named = {"teacher": self.accuracy(self.teacher)} | {label: task.score() for label, task in trained.items()}
        names = [name.replace("KnowledgeDistillationLoss", "KD") for name in named]
        bars = axes.barh(names, list(named.values()), color=["#999999", *colours(len(trained))], height=0.6)
        axes.bar_label(bars, [f"{value:.1%}" for value in named.values()], padding=4, color=INK)
        axes.set(xlim=(0, 1.15), title="accuracy on the test digits")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
        axes.grid(visible=False)
        axes.invert_yaxis()

    @torch.no_grad()
    def accuracy(self, model: nn.Module) -> float:
        model.eval()
        images, labels = self.test
        return float((model(images)["logits"].argmax(1) == labels).float().mean())


@functools.cache
def _teacher(epochs: int = 10, width: int = 32) -> nn.Module:
    """A wider network, trained with all labels. One for all students, whatever their seed."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        (images, labels), _ = load()
        model, loss = Net(width), build_loss("CrossEntropyLoss")
        loader = DataLoader(TensorDataset(images, labels), Distillation.batch_size, shuffle=True)
        rate = Distillation.learning_rate
        optimizer = torch.optim.AdamW(model.parameters(), rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, epochs * len(loader))
        for _ in range(epochs):
            for batch, given in loader:
                optimizer.zero_grad()
                loss(model(batch)["logits"], given).backward()
                optimizer.step()
                schedule.step()
    return model.eval()


def build() -> Task:
    return Distillation()
