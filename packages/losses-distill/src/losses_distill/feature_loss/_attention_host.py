"""The difference of squared attention maps on the host: summed, and no square of the size of the features written."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from losses_core.utils import host
from losses_core.utils.summed import number
from losses_distill._norm import inverse_norm


def summed_attention(x: Tensor, t: Tensor, axis: int, scale: float) -> Tensor:
    """``scale`` · Σ_n mean (Q̂_x - Q̂_t)² of features of one size, with Q the mean of squares along ``axis``."""
    return _Summed.apply(x, t, axis, scale)  # type: ignore[no-any-return]


class _Summed(host.HostFunction):
    """Keeps x, and the maps of student and teacher."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, t: Tensor, axis: int, scale: float) -> Tensor:
        theirs, _ = _scaled(_squares(t, axis))
        factor, gap = _factor(_squares(x, axis), theirs)
        locations = max(gap.shape[1], 1)
        ctx.axis, ctx.scale = axis, scale / locations
        ctx.save_for_backward(x, factor, theirs)
        return number(torch.dot(gap.view(-1), gap.view(-1)).item() * scale / locations, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, factor, theirs = ctx.saved_tensors
        if torch.is_grad_enabled():  # what was kept is not recorded
            factor, _ = _factor((x * x).sum(ctx.axis).flatten(1), theirs)
        # d(Σ x²) is 2 x, that of the squared difference twice it
        factor = factor * (grad * (4 * ctx.scale))
        return x * factor.view_as(x.select(ctx.axis, 0)).unsqueeze(ctx.axis), None, None, None


def _squares(x: Tensor, axis: int) -> Tensor:
    """(N, locations): the sum of squares along an axis."""
    result = x.new_zeros(x.shape[:axis] + x.shape[axis + 1 :])
    memory = None
    if x.numel():
        rows = host.rows_per_block(x.shape)
        for part, found in zip(x.split(rows), result.split(rows), strict=True):
            if memory is None or memory.shape != part.shape:
                memory = torch.empty(part.shape, dtype=x.dtype)
            torch.sum(torch.mul(part, part, out=memory), axis, out=found)
    return result.flatten(1)


def _scaled(attention: Tensor) -> tuple[Tensor, Tensor]:
    """Maps of length 1, and the inverse of their lengths (N,1); 0 where there is nothing."""
    # the square of a square may be too large or small
    top = attention.detach().amax(1, keepdim=True)
    top = torch.where(top == 0, torch.inf, top)
    scaled = attention / top
    inverse = inverse_norm(scaled, 1, 0)
    return scaled * inverse, inverse / top


def _factor(attention: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    """Half the gradient of Σ (Q̂ - theirs)² with respect to the maps, and the differences."""
    ours, inverse = _scaled(attention)
    gap = ours - theirs
    return (gap - ours * (ours * gap).sum(1, keepdim=True)) * inverse, gap
