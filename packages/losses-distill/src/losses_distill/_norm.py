"""Lengths of vectors, with a masked division: a vector shorter than ``eps`` has no direction, and no gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from losses_core.utils.autograd import Function


def inverse_norm(x: Tensor, dim: int, eps: float) -> Tensor:
    """1/‖x‖ along ``dim``, which is kept; 0 where ‖x‖ ≤ eps."""
    square = (x * x).sum(dim, keepdim=True)
    # NaN is not <= and stays visible
    return torch.where(square <= eps * eps, torch.inf, square).rsqrt()


class _Unit(Function):
    """x/‖x‖. Keeps x; the lengths are computed anew."""

    @staticmethod
    def forward(x: Tensor, dim: int, eps: float) -> Tensor:
        return x * inverse_norm(x, dim, eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int, float], output: Tensor) -> None:
        x, ctx.dim, ctx.eps = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        inverse = inverse_norm(x, ctx.dim, ctx.eps)
        unit = x * inverse
        return torch.addcmul(grad, unit, (unit * grad).sum(ctx.dim, keepdim=True), value=-1) * inverse, None, None


def unit(x: Tensor, dim: int = 1) -> Tensor:
    """Vectors along ``dim`` scaled to length 1; those no longer than 1e-12 become 0, with gradient 0."""
    return _Unit.apply(x, dim, 1e-12)  # type: ignore[no-any-return]
