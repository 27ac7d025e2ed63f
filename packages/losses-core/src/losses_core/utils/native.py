"""Losses that torch has itself: where they are as good as ours, nothing has fewer operations."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from losses_core.utils import host
from losses_core.utils.deferred import Deferred
from losses_core.utils.weight_reduce import Unreduced

FEW = 1 << 14
"""Elements up to which torch's own is faster even where ours moves less memory: it has the fewest operations."""


class Reducing(Protocol):
    """A loss of `torch.nn.functional`."""

    def __call__(self, pred: Tensor, target: Tensor, /, *, reduction: str) -> Tensor:
        """The loss under ``none``, ``mean`` or ``sum``."""


class Native(Deferred):
    """One of torch's own losses, of single elements, not computed yet.

    Args:
        function: the loss.
        pred: predictions.
        target: targets.
        averages: whether its mean is as good as its sum and a division. Some are a view of a buffer of the size of
            ``pred``, which a log would keep alive.
    """

    def __init__(self, function: Reducing, pred: Tensor, target: Tensor, *, averages: bool = False) -> None:
        self.function, self.x, self.target, self.averages = function, pred, target, averages

    @property
    def summable(self) -> bool:
        return host.on_host(self.x, self.target)

    def unreduced(self) -> Unreduced:
        return Unreduced(self.function(self.x, self.target, reduction="none"))

    def normalizer(self) -> float:
        return self.x.numel()

    def total(self, scale: float | Tensor) -> Tensor:
        if self.averages and isinstance(scale, float) and scale * self.x.numel() == 1:
            return self.function(self.x, self.target, reduction="mean")
        return self.function(self.x, self.target, reduction="sum") * scale
