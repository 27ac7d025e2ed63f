"""Squared and absolute differences on the host: summed, with their gradient, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from losses_core.utils import host
from losses_core.utils.summed import handed_on, number, wanted


def summed_difference(x: Tensor, t: Tensor, squared: bool, scale: float) -> Tensor:
    """``scale`` · Σ (x - t)², or of absolute values.

    Args:
        x: predictions, on the host.
        t: targets of the shape of ``x``, without a gradient.
        squared: which of the two.
        scale: a factor.
    """
    return _Summed.apply(x, t, squared, scale, wanted(x))  # type: ignore[no-any-return]


class _Summed(host.HostFunction):
    """Keeps the gradient, and x where that moves with it.

    The two inputs are read once; a gradient that is computed in the backward reads both again.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, t: Tensor, squared: bool, scale: float, slope_wanted: bool) -> Tensor:
        slope = torch.empty_like(x) if slope_wanted else None
        total, memory = 0.0, torch.empty(0, dtype=x.dtype)
        for x_part, t_part, part in _parts(x, t, slope):
            if memory.shape != x_part.shape:
                memory = torch.empty(x_part.shape, dtype=x.dtype)
            gap = torch.sub(x_part, t_part, out=memory)
            # a sign is 0 for NaN, whose product with it is not
            step = gap if squared else torch.sign(gap) if part is None else torch.sign(gap, out=part)
            total += _dot(gap, step)
            if part is not None:
                torch.mul(step, scale * (2 if squared else 1), out=part)
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


def _parts(x: Tensor, t: Tensor, slope: Tensor | None) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    x, t, *rest = _flat([x, t] if slope is None else [x, t, slope])
    if x.numel():
        rows = host.rows_per_block(x.shape)
        slopes = rest[0].split(rows) if rest else [None] * -(-x.shape[0] // rows)
        yield from zip(x.split(rows), t.split(rows), slopes, strict=True)


def _flat(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """No axis means anything where all are laid out alike."""
    if all(tensor.is_contiguous() for tensor in tensors):
        return [tensor.view(-1) for tensor in tensors]
    if all(tensor.is_contiguous(memory_format=torch.channels_last) for tensor in tensors):
        return [tensor.permute(0, 2, 3, 1).view(-1) for tensor in tensors]
    return tensors
