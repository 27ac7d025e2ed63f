"""The loss of scaled distances on the host: summed, with its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from losses_core.utils import host
from losses_core.utils.summed import full_products, number, recorded, wanted
from losses_distill._pairwise_host import Distances, distances

Elements = Callable[[Tensor, Tensor], Tensor]


def summed_distances(x: Tensor, t: Tensor, elements: Elements, eps: float, squared: bool, scale: float) -> Tensor:
    """``scale`` times the sum of the elements, which are given for a double backward; of at least one row."""
    return _Summed.apply(x, t, elements, eps, squared, scale, wanted(x))  # type: ignore[no-any-return]


class _Summed(host.HostFunction):
    """Keeps both embeddings and what the gradient weighs each pair with."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, t: Tensor, elements: Elements, eps: float, squared: bool, scale: float, slope_wanted: bool
    ) -> Tensor:
        ours, theirs = _Scaled(distances(x, eps), squared), _Scaled(distances(t, eps), squared)
        gap = ours.lengths - theirs.lengths
        slope, value = _smooth_l1(gap)
        ctx.elements, ctx.scale, ctx.offset = elements, scale, ours.offset
        ctx.save_for_backward(x, t, ours.weight(slope, scale) if slope_wanted else None)
        return number(value * scale, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, t, weight = ctx.saved_tensors
        if torch.is_grad_enabled():
            gradient = recorded(lambda given: ctx.elements(given, t), x, grad * ctx.scale)
        else:
            # the weights of a row add up to 0, so a mean cancels: but for rounding
            with full_products():
                gradient = torch.mm(weight, x - x.mean(0) if ctx.offset else x).mul_(grad)
        return gradient, None, None, None, None, None, None


def _smooth_l1(gap: Tensor) -> tuple[Tensor, float]:
    """The derivative at each gap, which may be the very tensor, and the sum of the values."""
    low, high = (end.item() for end in gap.aminmax())
    if low >= -1 and high <= 1:
        return gap, 0.5 * host.dot(gap, gap).item()
    slope = gap.clamp(-1, 1)
    return slope, (host.dot(slope, gap) - 0.5 * host.dot(slope, slope)).item()


class _Scaled:
    """Lengths (N,N), plain or squared, over their mean off the diagonal."""

    def __init__(self, given: Distances, squared: bool) -> None:
        self.lengths = given.squares if squared else given.squares.sqrt_()
        self.squared, self.distinct, self.offset = squared, given.distinct, given.offset
        n = given.squares.shape[0]
        self.pairs = max(n * (n - 1), 1)
        self.mean = self.lengths.sum().item() / self.pairs or 1.0
        self.lengths.mul_(1 / self.mean)

    def weight(self, slope: Tensor, scale: float) -> Tensor:
        """(N,N) whose product with the centred rows is the gradient, from that of the lengths, which is overwritten."""
        lengths = self.lengths
        # the mean moves with each length
        weight = slope.sub_(host.dot(slope, lengths).item() / self.pairs)
        factor = 4 * scale / self.mean
        if not self.squared:
            factor /= 2 * self.mean
            if self.distinct:
                weight.div_(lengths.fill_diagonal_(1))
            else:
                weight = torch.where(lengths == 0, 0, weight.div_(lengths))
        # Σ_j w_ij (x_i - x_j) as one product
        weight.fill_diagonal_(0)
        weight.diagonal().sub_(weight.sum(1))
        return weight.mul_(-factor)
