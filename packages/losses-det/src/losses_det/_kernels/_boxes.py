"""Gradients of a pair of boxes: the quantities of `losses_det._geometry`, coordinates first, and the chain rule.

Coordinates come first, so that each is one run of memory and one operation serves both axes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from losses_core.utils.boxes import BoxFormat, area, in_corners
from losses_det._geometry import MAX_GRAD, scaled


class Boxes:
    """A pair of boxes per row. Pairs of numbers are (2,n): x, then y. Everything else is (n,).

    With few boxes the number of operations is what takes time, so one measures as much as it can.

    Args:
        pred: (n,4).
        target: (n,4).
        eps: lower bound of every denominator.
        bbox_format: of both.
        hull: whether the smallest box around both is needed.
        ratio: factor that the boxes are scaled with about their centres; None: they are not.

    Attributes:
        sides: of the target, the prediction, their intersection and the hull, (3 or 4,2,n); negative where a box is
            inverted or the two are apart.
        size: the sides clamped at 0.
        iou: intersection over union.
    """

    def __init__(
        self,
        pred: Tensor,
        target: Tensor,
        eps: float,
        bbox_format: BoxFormat,
        *,
        hull: bool,
        ratio: float | None = None,
    ) -> None:
        self.eps = eps
        self.offset, self.sides = _measure(pred, target, bbox_format, hull, ratio)
        self.size = self.sides.clamp(min=0)
        target_area, pred_area, self.inter, *hull_area = area(self.size.movedim(1, 0)).unbind(0)
        self.hull_area = hull_area[0] if hull else self.inter
        self.union = target_area + pred_area - self.inter
        self.denominator = self.union.clamp(min=eps)
        self.iou = self.inter / self.denominator

    @property
    def target(self) -> Tensor:
        """Size of the target, (2,n)."""
        return self.size[0]

    @property
    def pred(self) -> Tensor:
        """Size of the prediction, (2,n)."""
        return self.size[1]

    @property
    def hull(self) -> Tensor:
        """Size of the hull, (2,n)."""
        return self.size[3]

    @property
    def shift(self) -> Tensor:
        """Centre of the target minus centre of the prediction, (2,n)."""
        return (self.offset[0] + self.offset[1]) * 0.5


def _measure(
    pred: Tensor, target: Tensor, bbox_format: BoxFormat, hull: bool, ratio: float | None
) -> tuple[Tensor, Tensor]:
    """Corners of the target minus those of the prediction, (2,2,n), and the sides of `Boxes`."""
    corners = in_corners(torch.stack((pred.t(), target.t()), 1).view(2, 2, 2, -1), bbox_format)
    if ratio is not None:
        corners = torch.stack(scaled(corners, ratio))
    of_pred, of_target = (corners[1] - corners[0]).unbind(1)
    first, second = corners.unbind(2)
    (lower, inner), (upper, outer) = torch.maximum(first, second), torch.minimum(first, second)
    of_all = [of_target, of_pred, outer - lower]
    return second - first, torch.stack([*of_all, inner - upper] if hull else of_all)


class Grads(NamedTuple):
    """Derivatives of a term by the quantities it depends on; None where it does not."""

    union: Tensor | None = None
    hull_area: Tensor | None = None
    size: Tensor | None = None
    hull: Tensor | None = None
    shift: Tensor | None = None
    corners: Tensor | None = None

    def times(self, factor: Tensor) -> Grads:
        """Each derivative times a factor (n,), or (2,n) where none is of an area."""
        return Grads(*(None if grad is None else grad * factor for grad in self))

    def plus(self, other: Grads) -> Grads:
        """The sum of both."""
        return Grads(*(add(a, b) for a, b in zip(self, other, strict=True)))


def add(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """The sum of those that are not None."""
    if a is None or b is None:
        return b if a is None else a
    return a + b


def where_above(limit: float, x: Tensor, value: Tensor) -> Tensor:
    """``value`` where ``x > limit``, else 0, whatever ``value`` holds there: the derivative of a clamp."""
    return value.masked_fill(x <= limit, 0)


def square_sum(pair: Tensor) -> Tensor:
    """x² + y² of (2,n)."""
    x, y = pair.unbind(0)
    return torch.addcmul(x * x, y, y)


def bounded_inverse(denominator: Tensor, derivative: Tensor) -> tuple[Tensor, Tensor]:
    """1 / denominator for derivatives, at most `MAX_GRAD` / derivative; and the denominator that it is the inverse of.

    ``denominator`` is already clamped. ``derivative`` (2,n) is that of the numerator, at least 0.
    """
    limit = torch.maximum(derivative[0], derivative[1]).div_(MAX_GRAD)
    bounded = torch.maximum(denominator, limit)
    return bounded.reciprocal(), bounded


def corner_grads(boxes: Boxes, by_iou: Tensor | None, grads: Grads) -> Tensor:
    """Chain rule from IoU (None: -1), areas, sides and shift to the corners of the prediction, (2,2,n).

    Where two edges coincide they share the derivative, half each, as in `torch.maximum`; so at equal boxes it is 0.
    """
    inverse, denominator = bounded_inverse(boxes.denominator, torch.maximum(boxes.target, boxes.pred))
    # a denominator that is clamped does not change with the union
    by_union = (boxes.inter * inverse).mul_(inverse).masked_fill_(boxes.union < denominator, 0)
    by_inter = inverse.neg() if by_iou is None else inverse * by_iou
    by_union = by_union if by_iou is None else by_union.mul_(by_iou).neg_()
    if grads.union is not None:
        by_union = by_union + grads.union
    areas = [by_union, by_inter - by_union]
    if grads.hull_area is not None:
        areas.append(grads.hull_area)
    # the area's derivative by the width is the height; the target does not move
    last = 1 + len(areas)
    by_side = torch.stack(areas).unsqueeze(1) * boxes.size[1:last].flip(1)
    if grads.size is not None:
        by_side[0].add_(grads.size)
    # a side of 0 still has a gradient, or a box of height 0 could never grow
    by_side.masked_fill_(boxes.sides[1:last] < 0, 0)
    # by index, as a compiler that sees a write into what unbind gave compiles for one number of boxes
    by_size, by_shared = by_side[0], by_side[1]
    outer = add(by_side[2] if grads.hull_area is not None else None, grads.hull)
    # whose edge lies further out decides whether moving it moves the hull or the intersection
    further = torch.sign(boxes.offset).mul_(by_shared if outer is None else by_shared - outer)
    if grads.shift is not None:
        further.sub_(grads.shift)
    stretch = by_size.add_(by_shared if outer is None else by_shared.add_(outer), alpha=0.5)
    further.mul_(0.5)
    further[0].sub_(stretch)
    further[1].add_(stretch)
    return further if grads.corners is None else further.add_(grads.corners)


def to_format(corners: Tensor, bbox_format: BoxFormat) -> Tensor:
    """From derivatives by the corners, (2,2,n), to those by the four numbers of a box, (n,4)."""
    if bbox_format != "xyxy":
        low, high = corners.unbind(0)
        corners = torch.stack((low + high, high if bbox_format == "ltwh" else (high - low) / 2))
    return corners.flatten(0, 1).t().contiguous()
