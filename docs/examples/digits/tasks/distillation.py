"""A larger network teaches a small one that has labels for few images: what is the teacher worth?"""

import copy
from collections.abc import Callable

import torch
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from losses_core import CombinedLoss, LossTerms, build_loss

from ..data import load
from ..plot import COLOURS, INK
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


class Distillation(Task):
    metric = "accuracy"
    goal = 0.94
    epochs = 20
    learning_rate = 5e-3
    student_width, teacher_width = 6, 32
    labelled = 100

    def __init__(self) -> None:
        (images, labels), self.test = load()
        # the teacher knew all labels; the student sees all images, but the labels of a few of them only
        few = labels.clone()
        few[self.labelled :] = -100
        self.train = TensorDataset(images, few)
        self.teacher = self._on_labels(Net(self.teacher_width), labels, self.epochs // 2)
        self.model = Net(self.student_width)
        self.alone = self.accuracy(self._on_labels(copy.deepcopy(self.model), few, self.epochs))

    def terms(self, criterion: CombinedLoss, batch: tuple[Tensor, ...]) -> LossTerms:
        images, labels = batch
        with torch.inference_mode():
            teacher = self.teacher(images)
        # the YAML file says which part of this each loss takes
        return criterion.terms({"student": self.model(images), "teacher": teacher, "labels": labels})

    def score(self) -> float:
        return self.accuracy(self.model)

    def draw(self, axes: Axes) -> None:
        """The accuracy of the teacher, and of the student without and with it."""
        named = {
            "teacher": self.accuracy(self.teacher),
            "student with teacher": self.score(),
            "student alone": self.alone,
        }
        bars = axes.barh(list(named), list(named.values()), color=[COLOURS[0], COLOURS[2], COLOURS[1]])
        axes.bar_label(bars, [f"{value:.1%}" for value in named.values()], padding=4, color=INK)
        lowest = min(named.values())
        axes.set(xlim=(lowest - 0.05, 1.02), title="what the teacher is worth")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.grid(visible=False)
        axes.invert_yaxis()

    @torch.no_grad()
    def accuracy(self, model: nn.Module) -> float:
        model.eval()
        images, labels = self.test
        return float((model(images)["logits"].argmax(1) == labels).float().mean())

    def _on_labels(self, model: nn.Module, labels: Tensor, epochs: int) -> nn.Module:
        """Train a network on labels only, with everything else as the student has it."""
        loss: Callable[..., Tensor] = build_loss("CrossEntropyLoss")
        loader = DataLoader(TensorDataset(self.train.tensors[0], labels), self.batch_size, shuffle=True)
        optimizer = torch.optim.AdamW(model.parameters(), self.learning_rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, epochs * len(loader))
        for _ in range(epochs):
            model.train()
            for images, given in loader:
                optimizer.zero_grad()
                loss(model(images)["logits"], given).backward()
                optimizer.step()
                schedule.step()
        return model.eval()


def build() -> Task:
    return Distillation()
