"""Losses that declare what inputs they take, for tests of `probe` and `plot`."""

from typing import Any, Unpack

import torch.nn.functional as F
from torch import Tensor, nn

from losses_core import BaseLoss, LossOptions, examples

from .small_losses import GapLoss, SquareLoss


class ErrorLoss(GapLoss):
    example = examples.VALUES


class CurvedLoss(SquareLoss):
    example = examples.VALUES


class LabelledLoss(BaseLoss):
    """Cross-entropy of labels."""

    example = examples.LABELS
    class_axis = 1

    def __init__(self, class_weight: Any = None, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self._set_vector("class_weight", class_weight)

    def _forward(self, pred: Tensor, target: Tensor) -> Tensor:
        weight = self._vector("class_weight", pred, pred.shape[1])
        return F.cross_entropy(pred, target, weight, reduction="none")


class PixelLoss(LabelledLoss):
    example = examples.PIXELS


class StudentLoss(BaseLoss):
    """A call needs labels."""

    example = examples.LOGITS

    def __init__(self, temperature: float = 1.0, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.temperature = temperature

    def _forward(self, pred: Tensor, target: Tensor, *, labels: Tensor) -> Tensor:
        error = (pred.softmax(1) - target.softmax(1)).square().sum(1)
        return error * (labels >= 0)


class AdaptedLoss(BaseLoss):
    """Features with a learnable adapter, whose size may be left open."""

    example = examples.FEATURES

    def __init__(
        self,
        student_channels: int | None = None,
        teacher_channels: int | None = None,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.student_channels = student_channels
        self.teacher_channels = teacher_channels
        self.adapter = (
            nn.LazyConv2d(16, 1)
            if student_channels is None or teacher_channels is None
            else nn.Conv2d(student_channels, teacher_channels, 1)
        )

    def _forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return (self.adapter(pred) - target).square()


class FlatLoss(BaseLoss):
    """No gradient at all."""

    example = examples.VALUES

    def _forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return (pred.detach() - target).abs()


class TrainedLoss(BaseLoss):
    """Costs more in training mode."""

    example = examples.VALUES

    def _forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return (pred - target).abs() + self.training


class FailingLoss(BaseLoss):
    """An error that is not of this library."""

    example = examples.VALUES

    def _forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return pred.view(-1) - target.view(3)


EXAMPLE_LOSSES = (
    ErrorLoss,
    CurvedLoss,
    LabelledLoss,
    PixelLoss,
    StudentLoss,
    AdaptedLoss,
    FlatLoss,
    TrainedLoss,
    FailingLoss,
)
