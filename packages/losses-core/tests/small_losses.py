"""Small losses of every shape of constructor and call, for tests of the builder and of combinations."""

from collections.abc import Sequence
from typing import Any, Literal, Unpack

import torch
from torch import Tensor, nn

from losses_core import BaseLoss, LossOptions


class GapLoss(BaseLoss):
    """|pred - target|."""

    def __init__(
        self,
        eps: float = 1e-6,
        margin: float | None = None,
        *,
        alpha: float | Sequence[float] | Tensor | None = None,
        steps: int = 3,
        mode: str | float = "plain",
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        if isinstance(eps, float) and eps < 0:
            raise ValueError(f"eps must not be negative, got {eps}")
        self.eps = eps
        self.margin = margin
        self.alpha = alpha
        self.steps = steps
        self.mode = mode

    def _forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return (pred - target).abs()


class SquareLoss(BaseLoss):
    """(pred - target)², with a keyword that masks."""

    def _forward(self, pred: Tensor, target: Tensor, *, mask: Tensor | None = None) -> Tensor:
        loss = (pred - target) ** 2
        return loss if mask is None else loss * mask


class SizedLoss(BaseLoss):
    """A loss with a required parameter, learnable parts and a literal."""

    def __init__(
        self, channels: int, *, mode: Literal["a", "b"] = "a", class_weight: Any = None, **options: Unpack[LossOptions]
    ) -> None:
        super().__init__(**options)
        self.channels = channels
        self.mode = mode
        self.class_weight = class_weight
        self.adapter = nn.Linear(channels, channels, bias=False)
        nn.init.eye_(self.adapter.weight)

    def _forward(self, pred: Tensor, target: Tensor, *, mask: Tensor | None = None, power: float = 1.0) -> Tensor:
        loss = (self.adapter(pred) - target).abs() ** power
        return loss if mask is None else loss * mask


class BatchLoss(BaseLoss):
    """One scalar for the batch."""

    def _forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return (pred - target).abs().max()


class OddLoss(BaseLoss):
    """Parameters that have the names of config keys."""

    def __init__(self, weight: list[float], inputs: int = 0, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.weight = weight
        self.inputs = inputs

    def _forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return (pred - target).abs() * self.weight[0]


class TrainLoss(GapLoss):
    """Its label, `train`, is a method of every module."""


class BrokenLoss(BaseLoss):
    """Raises an error of any kind from its constructor."""

    def __init__(self, kind: str = "RuntimeError", **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        raise {"RuntimeError": RuntimeError, "KeyError": KeyError, "assert": AssertionError}[kind]()

    def _forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return pred


SMALL_LOSSES = (GapLoss, SquareLoss, SizedLoss, BatchLoss, OddLoss, TrainLoss, BrokenLoss)


def batch(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A pred that requires a gradient, and a target."""
    generator = torch.Generator().manual_seed(seed)
    shape = shape or (4, 3)
    return torch.randn(shape, generator=generator, requires_grad=True), torch.randn(shape, generator=generator)


def inputs(**paths: Any) -> dict[str, Any]:
    """The config of a loss that declares its inputs."""
    return {"type": "SquareLoss", "inputs": paths}
