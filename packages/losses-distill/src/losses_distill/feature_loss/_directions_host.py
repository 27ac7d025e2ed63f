"""Distances of vectors scaled to length 1, on the host: summed, with their gradient, block by block."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from losses_core.utils import host
from losses_core.utils.summed import handed_on, number, wanted
from losses_distill._blocks import blocks, vectors
from losses_distill._norm import inverse_norm

Kind = Literal["squared", "absolute", "cosine"]

_NEAR = 0.98
"""Cosine up to which the squared distance is 2 - 2 cos to as many digits as the sum over the elements has."""


def summed_distance(x: Tensor, t: Tensor, kind: Kind, axis: int, eps: float, scale: float) -> Tensor:
    """``scale`` times the sum of the squared or absolute differences of x/‖x‖ and t/‖t‖, or of 1 - their cosine."""
    return _Summed.apply(x, t, kind, axis, eps, scale, wanted(x))  # type: ignore[no-any-return]


class _Summed(host.HostFunction):
    """Keeps x, the gradient, and a number per vector.

    The gradient is k (w - u (u·w)) / ‖x‖ with u = x/‖x‖, where w is t/‖t‖ or the signs of the differences. So w, which
    a double backward needs, is found again by the gradient, and t need not be kept.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, t: Tensor, kind: Kind, axis: int, eps: float, scale: float, slope_wanted: bool
    ) -> Tensor:
        slope = torch.empty(x.shape, dtype=x.dtype) if slope_wanted else None
        student, teacher = vectors(x, axis), vectors(t, axis)
        along = student.new_empty(student[:, :1].shape)
        k = {"squared": -2 * scale, "absolute": scale, "cosine": -scale}[kind]
        work = _Absolute(eps, k) if kind == "absolute" else _Cosine(eps, k, kind == "squared")
        written = None if slope is None else vectors(slope, axis)
        # in larger blocks than elsewhere: a feature map of a sample is read in short pieces, far apart
        total = sum(work(*parts) for parts in blocks(student, teacher, written, along, size=8 * host.BLOCK))
        ctx.axis, ctx.eps, ctx.k = axis, eps, k
        ctx.save_for_backward(x, slope, along)
        return number(total * scale, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, slope, along = ctx.saved_tensors
        if not torch.is_grad_enabled():
            gradient = handed_on(slope, grad)
        elif ctx.k == 0:
            gradient = slope * grad
        else:
            axis = ctx.axis
            inverse = inverse_norm(x, axis, ctx.eps)
            unit = x * inverse
            along = along.view(inverse.shape)
            w = (torch.where(inverse == 0, 0, slope / (ctx.k * inverse)) + unit * along).detach()
            moving = (w - unit * (unit * w).sum(axis, keepdim=True)) * (ctx.k * inverse)
            gradient = (slope + (moving - moving.detach())) * grad
        return gradient, None, None, None, None, None, None


class _Work:
    """On one block after another, in the same memory."""

    def __init__(self, eps: float, k: float) -> None:
        self.least, self.k = eps * eps, k
        self._memory: list[Tensor] = []

    def memory(self, x: Tensor, index: int) -> Tensor:
        if self._memory and self._memory[0].shape != x.shape:
            self._memory.clear()
        if len(self._memory) <= index:
            self._memory.append(torch.empty(x.shape, dtype=x.dtype))
        return self._memory[index]

    def dots(self, x: Tensor, t: Tensor) -> Tensor:
        """Of each pair of vectors."""
        return torch.mul(x, t, out=self.memory(x, 0)).sum(1, keepdim=True)

    def inverse(self, x: Tensor) -> Tensor:
        """1/‖x‖, and 0 for a vector without a direction."""
        square = self.dots(x, x)
        if not square.amin().item() > self.least:
            # NaN is not <= and stays visible
            square = torch.where(square <= self.least, torch.inf, square)
        return square.rsqrt_()

    def gap(self, x: Tensor, t: Tensor, inverse_x: Tensor, inverse_t: Tensor) -> Tensor:
        """x/‖x‖ - t/‖t‖"""
        return torch.mul(x, inverse_x, out=self.memory(x, 0)).addcmul_(t, inverse_t, value=-1)


class _Cosine(_Work):
    """1 - cos, or twice that; w is the direction of the teacher."""

    def __init__(self, eps: float, k: float, squared: bool) -> None:
        super().__init__(eps, k)
        self.squared = squared

    def __call__(self, x: Tensor, t: Tensor, slope: Tensor | None, along: Tensor) -> float:
        inverse_x, inverse_t = self.inverse(x), self.inverse(t)
        both = inverse_x * inverse_t
        torch.mul(self.dots(x, t), both, out=along)
        if slope is not None:
            torch.mul(x, (along * inverse_x).mul_(inverse_x).mul_(-self.k), out=slope)
            slope.addcmul_(t, both.mul_(self.k))
        if not self.squared:
            return along.numel() - along.sum().item()
        ends = inverse_x.amin().item() > 0 and inverse_t.amin().item() > 0 and along.amax().item() < _NEAR
        if ends:
            return 2 * (along.numel() - along.sum().item())
        gap = self.gap(x, t, inverse_x, inverse_t).view(-1)
        return torch.dot(gap, gap).item()


class _Absolute(_Work):
    """Σ |u - v|; w holds the signs."""

    def __call__(self, x: Tensor, t: Tensor, slope: Tensor | None, along: Tensor) -> float:
        inverse_x, inverse_t = self.inverse(x), self.inverse(t)
        gap = self.gap(x, t, inverse_x, inverse_t)
        sign = torch.sign(gap, out=self.memory(x, 1))
        # a sign is 0 for NaN, whose product with it is not
        value = torch.dot(gap.view(-1), sign.view(-1)).item()
        if slope is not None:
            torch.mul(self.dots(x, sign), inverse_x, out=along)
            torch.mul(x, (along * inverse_x).mul_(inverse_x).mul_(-self.k), out=slope)
            slope.addcmul_(sign, inverse_x.mul_(self.k))
        return value
