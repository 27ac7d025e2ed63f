"""Maximum over a square window, one axis after the other, and where its gradient goes.

As ``max_pool`` with stride 1, which on the CPU takes ten times as long and keeps int64 indices for its backward.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def window_max(x: Tensor, size: int) -> Tensor:
    """Maximum over the window of odd ``size`` around each pixel of (N,C,*S), cut off at the border."""
    for axis in range(2, x.ndim):
        x = _line_max(x, axis, size)
    return x


def window_max_slope(x: Tensor, size: int, grad: Tensor) -> Tensor:
    """The gradient with respect to ``x`` of ``window_max(x, size)``; equal maxima share it."""
    stages = [x]
    for axis in range(2, x.ndim):
        stages.append(_line_max(stages[-1], axis, size))
    for axis in reversed(range(2, x.ndim)):
        grad = _line_slope(stages[axis - 2], stages[axis - 1], axis, size, grad)
    return grad


def _padded(x: Tensor, axis: int, size: int) -> Tensor:
    # margins are counted from the last axis, two numbers per axis
    return F.pad(x, [0, 0] * (x.ndim - 1 - axis) + [size // 2, size // 2], value=-torch.inf)


def _line_max(x: Tensor, axis: int, size: int) -> Tensor:
    wide = _padded(x, axis, size)
    length = x.shape[axis]
    result = wide.narrow(axis, 0, length)
    for i in range(1, size):
        result = torch.maximum(result, wide.narrow(axis, i, length))
    return result


def _line_slope(x: Tensor, top: Tensor, axis: int, size: int, grad: Tensor) -> Tensor:
    """``top`` is the maximum of ``x`` along the axis."""
    wide = _padded(x, axis, size)
    length = x.shape[axis]
    hits = [_equal(wide.narrow(axis, i, length), top) for i in range(size)]
    share = grad / sum(hits[1:], hits[0])
    result = torch.zeros_like(wide)
    for i, hit in enumerate(hits):
        result.narrow(axis, i, length).addcmul_(hit, share)
    return result.narrow(axis, size // 2, length)


@torch.no_grad()
def _equal(a: Tensor, b: Tensor) -> Tensor:
    """1 where equal, else 0; on the CPU five times as fast as by way of a bool tensor."""
    if torch.compiler.is_compiling() or a.device.type != "cpu":
        return (a == b).to(a.dtype)
    return torch.eq(a, b, out=torch.empty_like(b))
