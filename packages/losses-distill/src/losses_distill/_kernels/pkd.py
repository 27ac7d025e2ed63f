"""Kernel of the correlation of channels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from losses_core._blocks import as_rows, block_size, split
from losses_core.kernels import kernel
from losses_distill.feature_loss.pkd import is_flat, pkd_loss

_TEMPORARIES = 6


def _plain(pred: Tensor, target: Tensor, *, counted: Any, group: Any, **_: Any) -> bool:
    return counted is None and group is None and pred.numel() > 0


@kernel(pkd_loss, supports=_plain, cast=False)
def pkd(x: Tensor, target: Tensor, *, eps: float, needs_grad: bool, **_: Any) -> tuple[Tensor, Tensor | None]:
    """Compute means, moments about them, and the gradient, which is linear in student and teacher, in blocks."""
    half = x.dtype in (torch.float16, torch.bfloat16)
    precision = torch.float32 if half else x.dtype
    # a small gradient in fp16 is kept in float32
    grad = torch.empty_like(x, dtype=precision if x.dtype == torch.float16 else x.dtype) if needs_grad else None
    channels_first = [t.mT if x.ndim == 3 else t for t in (x, target, *(() if grad is None else (grad,)))]
    rows, optional = as_rows("channels", channels_first[0], channels_first[1:])
    others = [t for t in optional if t is not None]  # all are there
    dims = [dim for dim in range(rows.ndim) if dim != 1]
    shape = (-1, 1) if rows.ndim == 3 else (-1,)
    number = rows.numel() // rows.shape[1]
    means = [t.mean(dims, dtype=precision) for t in (rows, others[0])]
    magnitudes = torch.stack([t.abs() for t in (rows.amax(dims), rows.amin(dims))]).amax(0)
    magnitudes = torch.stack([magnitudes, torch.maximum(others[0].amax(dims).abs(), others[0].amin(dims).abs())])

    def centered(blocks: tuple[Tensor, ...]) -> list[Tensor]:
        return [t.to(precision) - mean.reshape(shape) for t, mean in zip(blocks, means, strict=False)]

    moments = torch.zeros(3, rows.shape[1], dtype=precision, device=x.device)
    for student, teacher, *_gradient in _blocks(rows, others):
        s, t = centered((student, teacher))
        product = (s * t).sum(dims)
        moments = moments.add_(torch.stack([s.mul_(s).sum(dims), t.mul_(t).sum(dims), product]))
        del s, t
    square_s, square_t, product = moments
    flat_s, flat_t = is_flat(moments[:2] / max(number - 1, 1), magnitudes.to(precision), eps)
    inverse_s, inverse_t = (
        square.masked_fill(flat, 1).rsqrt().masked_fill(flat, 0)
        for square, flat in ((square_s, flat_s), (square_t, flat_t))
    )
    correlation = product * inverse_s * inverse_t
    varies_s, varies_t = (~flat_s).to(precision), (~flat_t).to(precision)
    value = (number - 1) * (0.5 * (varies_s + varies_t) - correlation).clamp(min=0)
    if grad is None:
        return value, None
    by_s = (correlation * inverse_s * inverse_s).mul_(number - 1).reshape(shape)
    by_t = (inverse_s * inverse_t).mul_(1 - number).reshape(shape)
    for student, teacher, gradient in _blocks(rows, others):
        s, t = centered((student, teacher))
        gradient.copy_(s.mul_(by_s).addcmul_(t, by_t))
        del s, t
    return value, grad


def _blocks(rows: Tensor, others: list[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """Blocks of samples or positions, with all channels; a single one while compiling."""
    if torch.compiler.is_compiling():
        yield rows, *others
        return
    for block, parts in split("channels", rows, others, block_size(rows, _TEMPORARIES, large=True)):
        yield block, *(part for part in parts if part is not None)
