"""Kernel of the sums of the clDice loss, which goes through images, and through classes of an image."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core._blocks import block_size, ranges
from losses_core.kernels import kernel
from losses_core.utils.precision import upcast
from losses_seg._activation import activate
from losses_seg._skeleton import block_max, cross_min, running_skeleton
from losses_seg._targets import Activation, class_mask, is_labels, masked
from losses_seg._window import window_max_grad
from losses_seg.skeleton_loss.cldice import skeleton_sums


@kernel(skeleton_sums, passes=2, temporaries=12)
class SkeletonSums:
    """The backward computes the skeletons anew, and keeps two maps per iteration of the classes at hand."""

    number = 6

    @classmethod
    def forward(cls, x: Tensor, target: Any, *, iterations: int, first: int, **options: Any) -> Tensor:
        """The sums (n,6,C)."""
        sums = []
        for p, g, skeleton, ignored in _parts(x, target, first, **options):
            mine = running_skeleton(p, ignored, iterations)
            valid = torch.ones_like(p) if ignored is None else (~ignored).to(p.dtype).expand_as(p)
            maps = (mine * g, mine, skeleton * p, skeleton, g, valid)
            sums.append(torch.stack([m.flatten(2).sum(2) for m in maps], 1))
        return F.pad(torch.cat(sums, 2), (first, 0))

    @classmethod
    def backward(
        cls,
        x: Tensor,
        target: Any,
        grads: Tensor,
        *,
        iterations: int,
        first: int,
        activation: Activation,
        **options: Any,
    ) -> Tensor:
        """The gradient in x."""
        parts, start = [], first
        for p, g, skeleton, ignored in _parts(x, target, first, activation=activation, **options):
            of_both, of_sum, of_true = grads[:, :3, start : start + p.shape[1]].unbind(1)
            shape = (*of_sum.shape, *(1 for _ in p.shape[2:]))
            grad = skeleton_grad(p, g * of_both.reshape(shape) + of_sum.reshape(shape), ignored, iterations)
            parts.append(grad.add_(skeleton * of_true.reshape(shape)))
            start += p.shape[1]
        if first:
            parts.insert(0, torch.zeros_like(parts[0][:, :1]))
        grad, ignored = torch.cat(parts, 1), options["ignored"]
        if activation != "none":
            p = activate(upcast(masked(x, ignored)), activation)
            grad = grad * p
            grad = grad - p.mul_(grad.sum(1, keepdim=True)) if activation == "softmax" else grad.mul_(1 - p)
        return masked(grad, ignored)


def _parts(
    x: Tensor, target: Any, first: int, *, ignored: Tensor | None, activation: Activation
) -> list[tuple[Tensor, Tensor, Tensor, Tensor | None]] | Any:
    """Yield probabilities, truth, its skeleton and what is ignored, of some classes; all 0 where ignored."""
    truth, skeleton = target
    p = masked(activate(upcast(masked(x, ignored)), activation), ignored)
    for c, end in ranges(x.shape[1] - first, max(1, block_size(x) // max(1, x[:1, 0].numel()))):
        classes = slice(first + c, first + end)
        hidden = ignored if ignored is None or ignored.shape[1] == 1 else ignored[:, classes]
        g = class_mask(truth, classes.stop, classes.start) if is_labels(x, truth) else truth[:, classes]
        yield p[:, classes], masked(g.to(p.dtype), hidden), skeleton[:, c:end].to(p.dtype), hidden


def skeleton_grad(x: Tensor, grad: Tensor, ignored: Tensor | None, iterations: int) -> Tensor:
    """The gradient of ``running_skeleton(x)`` times ``grad``, which is 0 where ignored."""
    maps: list[Tensor] = [x]
    rests: list[Tensor] = []
    for _ in range(iterations + 1):
        maps.append(cross_min(maps[-1], ignored))
        part = (maps[-2] - block_max(maps[-1], ignored)).relu_()
        rests.append((1 - part) * rests[-1] if rests else 1 - part)
    rests.pop()
    below = None  # the gradient of the next map
    while len(maps) > 1:
        eroded = maps.pop()
        x, rest = maps[-1], rests.pop() if rests else None
        part = (x - block_max(eroded, ignored)).relu_()
        of_part = grad.masked_fill(part == 0, 0)
        if rest is not None:
            of_part.mul_(rest)
        grad = grad * (1 - part)
        of_eroded = window_max_grad(masked(eroded, ignored, -1), 3, of_part.neg())
        below = of_eroded if below is None else below.add_(of_eroded)
        below = cross_min_grad(masked(x, ignored, 2), eroded, below).add_(of_part)
    return below  # type: ignore[return-value]  # there is one iteration at least


def cross_min_grad(x: Tensor, low: Tensor, grad: Tensor) -> Tensor:
    """Gradient of ``low = cross_min(x)`` in x; the first of equal minima gets it. ``grad`` is overwritten."""
    result = torch.eq(x, low).to(x.dtype).mul_(grad)
    grad.sub_(result)
    for axis in range(2, x.ndim):
        inner = x.shape[axis] - 1
        for here, there in ((1, 0), (0, 1)):
            left = grad.narrow(axis, here, inner)
            hit = torch.eq(x.narrow(axis, there, inner), low.narrow(axis, here, inner)).to(x.dtype).mul_(left)
            result.narrow(axis, there, inner).add_(hit)
            left.sub_(hit)
    return result
