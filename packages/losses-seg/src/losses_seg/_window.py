"""Maximum over a square window around each pixel, and the gradient of it: by torch's pooling, or line by line.

On a CPU pooling takes ten times as long as the lines; on an accelerator it is one kernel.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor


def max_pool(x: Tensor, size: int) -> Tensor:
    """Maximum over the window of odd ``size`` around each pixel of (N,C,*S), cut off at the border."""
    if x.ndim > 5:  # the first spatial axis alone, then the others
        lines = x.movedim(2, -1)
        x = F.max_pool1d(lines.flatten(1, -2), size, 1, size // 2).view(lines.shape).movedim(-1, 1)
        return max_pool(x.flatten(0, 1), size).view(x.shape).movedim(1, 2)
    return (F.max_pool1d, F.max_pool2d, F.max_pool3d)[x.ndim - 3](x, size, 1, size // 2)


def max_pool_grad(x: Tensor, size: int, grad: Tensor) -> Tensor:
    """Gradient of ``max_pool(x, size)`` in ``x``, of up to three spatial axes; the first of equal maxima gets it."""
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[x.ndim - 3]
    index = pool(x, size, 1, size // 2, return_indices=True)[1]
    return torch.zeros_like(x).flatten(2).scatter_add_(2, index.flatten(2), grad.flatten(2)).view(x.shape)


def window_max(x: Tensor, size: int) -> Tensor:
    """`max_pool`, one axis after the other."""
    for axis in reversed(range(2, x.ndim)):
        x = _line_max(x, axis, size)
    return x


def window_max_grad(x: Tensor, size: int, grad: Tensor) -> Tensor:
    """`max_pool_grad`, one axis after the other; ``grad`` is overwritten."""
    stages = [x]
    for axis in reversed(range(2, x.ndim)):
        stages.append(_line_max(stages[-1], axis, size))
    for axis in range(2, x.ndim):
        top = stages.pop()
        grad = _line_max_grad(stages[-1], top, axis, size, grad)
    return grad


def _shifts(axis: int, size: int, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield for each position in a window, from first to last, the windows and their elements at that position.

    Four tensors of one shape: the first two are cut to the windows, the others to the elements.
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
    """``top`` is the maximum of ``x`` along the axis; ``grad`` keeps what has not reached a maximum yet."""
    result = torch.zeros_like(x)
    for window, left, element, part in _shifts(axis, size, top, grad, x, result):
        hit = torch.eq(element, window, out=torch.empty_like(left))  # 1 or 0; bools take ten times as long
        hit.mul_(left)
        part.add_(hit)
        left.sub_(hit)
    return result
