"""Maximum over a square window, one axis after the other, and the gradient of it.

As ``max_pool`` with stride 1 and its backward, which on a CPU take ten times as long, and keep an index of 8 bytes for
each element.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def window_max(x: Tensor, size: int) -> Tensor:
    """Maximum over the window of odd ``size`` around each pixel of (N,C,*S), cut off at the border."""
    for axis in reversed(range(2, x.ndim)):
        x = _line_max(x, axis, size)
    return x


def window_max_grad(x: Tensor, size: int, grad: Tensor) -> Tensor:
    """Gradient of ``window_max(x, size)`` in ``x``; of equal maxima, the first in memory gets it.

    ``grad`` is overwritten.
    """
    stages = [x]
    for axis in reversed(range(2, x.ndim)):
        stages.append(_line_max(stages[-1], axis, size))
    for axis in range(2, x.ndim):
        top = stages.pop()
        grad = _line_max_grad(stages[-1], top, axis, size, grad)
    return grad


def _shifts(axis: int, size: int, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """For each element of a window, from first to last: the windows that have it, and it, as parts of two tensors each.

    The first two tensors are cut to the windows, the others to their elements.
    """
    length = tensors[0].shape[axis]
    for shift in range(-(size // 2), size // 2 + 1):
        if abs(shift) < length:
            starts = (max(0, -shift),) * 2 + (max(0, shift),) * 2
            yield tuple(t.narrow(axis, start, length - abs(shift)) for t, start in zip(tensors, starts, strict=True))


def _line_max(x: Tensor, axis: int, size: int) -> Tensor:
    top = x.clone()
    for window, _, element, _ in _shifts(axis, size, top, top, x, x):
        window.clamp_(min=element)
    return top


def _line_max_grad(x: Tensor, top: Tensor, axis: int, size: int, grad: Tensor) -> Tensor:
    """``top`` is the maximum of ``x`` along the axis; ``grad`` becomes what has not found its maximum yet."""
    result = torch.zeros_like(x)
    for window, left, element, found in _shifts(axis, size, top, grad, x, result):
        hit = torch.eq(element, window, out=torch.empty_like(left))  # 1 or 0; bools take ten times as long
        hit.mul_(left)
        found.add_(hit)
        left.sub_(hit)
    return result
