"""Soft skeletons by erosion and dilation, without a gradient for masks, with one for probabilities.

An ignored pixel counts as outside the image: it enters no minimum and no maximum.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core._blocks import block_size, ranges
from losses_seg._targets import class_mask, is_labels, masked


def soft_skeleton(x: Tensor, ignored: Tensor | None, iterations: int) -> Tensor:
    """The soft skeleton of maps (N,C,*S) in [0,1], which are 0 where ignored; differentiable any number of times."""
    skeleton = None
    for _ in range(iterations + 1):
        low = masked(x, ignored, math.inf)
        for axis in range(2, x.ndim):
            low = torch.minimum(low, _neighbours(masked(x, ignored, math.inf), axis, torch.minimum, math.inf))
        eroded = masked(low, ignored)
        top = masked(low, ignored, -math.inf)
        for axis in range(2, x.ndim):
            top = torch.maximum(top, _neighbours(top, axis, torch.maximum, -math.inf))
        part = torch.relu(x - masked(top, ignored))
        skeleton = part if skeleton is None else skeleton + part * (1 - skeleton)
        x = eroded
    return skeleton  # type: ignore[return-value]  # there is one iteration at least


def _neighbours(x: Tensor, axis: int, combine: object, outside: float) -> Tensor:
    """The smaller, or larger, of the two neighbours along an axis."""
    before = [0, 0] * (x.ndim - 1 - axis)
    shifted = (F.pad(x, (*before, *ends), value=outside).narrow(axis, start, x.shape[axis]) for ends, start in _ENDS)
    return combine(*shifted)  # type: ignore[operator,no-any-return]


_ENDS = (((1, 0), 0), ((0, 1), 1))


def cross_min(x: Tensor, ignored: Tensor | None) -> Tensor:
    """Minimum over each element of (N,C,*S) and its neighbours along the axes; 0 where ignored. For kernels."""
    x = _filled(x, ignored, 1)
    low = x.clone()
    for axis in range(2, x.ndim):
        inner = x.shape[axis] - 1
        low.narrow(axis, 1, inner).clamp_(max=x.narrow(axis, 0, inner))
        low.narrow(axis, 0, inner).clamp_(max=x.narrow(axis, 1, inner))
    return low if ignored is None else low.masked_fill_(ignored, 0)


def block_max(x: Tensor, ignored: Tensor | None) -> Tensor:
    """Maximum over the 3^d elements around each of (N,C,*S), which is 0 where ignored; 0 there. For kernels."""
    for axis in range(2, x.ndim):
        x = line_max(x, axis)
    return x if ignored is None else x.masked_fill_(ignored, 0)


def line_max(x: Tensor, axis: int) -> Tensor:
    """Maximum over each element and its two neighbours along an axis."""
    top, inner = x.clone(), x.shape[axis] - 1
    top.narrow(axis, 1, inner).clamp_(min=x.narrow(axis, 0, inner))
    top.narrow(axis, 0, inner).clamp_(min=x.narrow(axis, 1, inner))
    return top


def _filled(x: Tensor, ignored: Tensor | None, value: float) -> Tensor:
    """Values in [0,1] with a bound of them where ignored."""
    return x if ignored is None else x.masked_fill(ignored, value)


@torch.no_grad()
def truth_skeleton(
    pred: Tensor, target: Tensor, ignored: Tensor | None, iterations: int, *, first: int = 0, tube: int | None = None
) -> Tensor:
    """The skeleton of each true class (N,C-first,*S), some images and classes at a time; 0 where ignored.

    Args:
        pred: (N,C,*S), for its shape.
        target: labels (N,*S), or masks (N,C,*S); a floating one without ``tube`` has a soft skeleton.
        ignored: bool (N,1,*S) or (N,C,*S).
        iterations: k.
        first: the first class.
        tube: how often the skeleton is dilated along the axes within the mask g > 0.5; None: never, and no mask.

    Returns:
        uint8, or of the dtype of a soft skeleton.
    """
    size, images, classes = block_size(pred), [], pred.shape[1] - first
    pixels = max(1, pred.shape[2:].numel())
    for n, n_end in ranges(pred.shape[0], max(1, size // (pixels * pred.shape[1]))):
        parts = []
        for c, c_end in ranges(classes, max(1, size // pixels)):
            if is_labels(pred, target):
                g = class_mask(target[n:n_end], first + c_end, first + c)
            else:
                g = target[n:n_end, first + c : first + c_end]
            hidden = None if ignored is None else ignored[n:n_end]
            if hidden is not None and hidden.shape[1] > 1:
                hidden = hidden[:, first + c : first + c_end]
            parts.append(_skeleton_of(g, hidden, iterations, tube))
        images.append(torch.cat(parts, 1) if len(parts) > 1 else parts[0])
    if not images:
        return pred.new_zeros((0, classes, *pred.shape[2:]), dtype=skeleton_dtype(pred, target, tube))
    return torch.cat(images) if len(images) > 1 else images[0]


def skeleton_dtype(pred: Tensor, target: Tensor, tube: int | None) -> torch.dtype:
    """The dtype of a skeleton of the truth."""
    if tube is not None or is_labels(pred, target) or not target.dtype.is_floating_point:
        return torch.uint8
    return torch.float64 if target.dtype == torch.float64 else torch.float32


def _skeleton_of(g: Tensor, ignored: Tensor | None, iterations: int, tube: int | None) -> Tensor:
    if tube is None and g.dtype.is_floating_point:
        return running_skeleton(
            masked(g.double() if g.dtype == torch.float64 else g.float(), ignored), ignored, iterations
        )
    # of 0 and 1 in a byte, minimum and maximum are "and" and "or"
    mask = masked((g > 0.5 if g.dtype.is_floating_point else g != 0).to(torch.uint8), ignored)
    skeleton, x = torch.zeros_like(mask), mask
    for _ in range(iterations + 1):
        eroded = cross_min(x, ignored)
        skeleton = skeleton.bitwise_or_((x > block_max(eroded, ignored)).to(torch.uint8))
        x = eroded
    for _ in range(tube or 0):
        wider = skeleton.clone()
        for axis in range(2, x.ndim):
            wider.clamp_(min=line_max(skeleton, axis))
        skeleton = masked(wider, ignored)
    return skeleton if tube is None else skeleton.mul_(mask)


def running_skeleton(x: Tensor, ignored: Tensor | None, iterations: int) -> Tensor:
    """`soft_skeleton` without a gradient, of which one iteration is kept."""
    rest = None  # 1 - S
    for _ in range(iterations + 1):
        eroded = cross_min(x, ignored)
        part = _opened_part(x, eroded, ignored).neg_().add_(1)
        rest = part if rest is None else rest.mul_(part)
        x = eroded
    return rest.neg_().add_(1)  # type: ignore[union-attr]  # there is one iteration at least


def _opened_part(x: Tensor, eroded: Tensor, ignored: Tensor | None) -> Tensor:
    """What an opening removes."""
    return (x - block_max(eroded, ignored)).relu_()
