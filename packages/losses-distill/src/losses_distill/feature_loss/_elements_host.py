"""Squared and absolute differences on the host: summed, with their gradient, block by block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from losses_core.utils import host
from losses_distill._blocks import blocks
from losses_distill._summed import handed_on, number, wanted


def summed_difference(x: Tensor, t: Tensor, squared: bool, scale: float) -> Tensor:
    """``scale`` · Σ (x - t)², or of absolute values."""
    return _Summed.apply(x, t, squared, scale, wanted(x))  # type: ignore[no-any-return]


class _Summed(host.HostFunction):
    """Keeps the gradient, and x where that moves with it.

    The two inputs are read once; a gradient that is computed in the backward reads both again.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, t: Tensor, squared: bool, scale: float, slope_wanted: bool) -> Tensor:
        slope = torch.empty_like(x) if slope_wanted else None
        total, memory = 0.0, torch.empty(0, dtype=x.dtype)
        for x_part, t_part, part in blocks(*_flat(x, t, slope)):
            if memory.shape != x_part.shape:
                memory = torch.empty(x_part.shape, dtype=x.dtype)
            gap = torch.sub(x_part, t_part, out=memory)
            if squared:
                total += _dot(gap, gap)
                sign = gap
            else:
                # it is 0 for NaN, whose product with it is not
                sign = torch.sign(gap, out=part)
                total += _dot(gap, sign)
            if part is not None:
                torch.mul(sign, scale * (2 if squared else 1), out=part)
        ctx.squared, ctx.scale = squared, scale
        ctx.save_for_backward(slope, x if squared else None)
        return number(total * scale, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        slope, x = ctx.saved_tensors
        if not torch.is_grad_enabled():
            gradient = handed_on(slope, grad)
        else:
            gradient = (slope if x is None else slope + (x - x.detach()) * (2 * ctx.scale)) * grad
        return gradient, None, None, None, None


def _dot(a: Tensor, b: Tensor) -> float:
    return torch.dot(a.view(-1), b.reshape(-1)).item()


def _flat(*tensors: Tensor | None) -> Sequence[Tensor | None]:
    """No axis means anything where all are laid out alike."""
    given = [tensor for tensor in tensors if tensor is not None]
    if all(tensor.is_contiguous() for tensor in given):
        return [None if tensor is None else tensor.view(-1) for tensor in tensors]
    if all(tensor.is_contiguous(memory_format=torch.channels_last) for tensor in given):
        return [None if tensor is None else tensor.permute(0, 2, 3, 1).view(-1) for tensor in tensors]
    return tensors
