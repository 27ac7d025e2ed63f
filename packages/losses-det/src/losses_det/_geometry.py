"""Pairs of boxes: the quantities that the losses of the IoU family are made of, and the way back to coordinates."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from losses_core.utils import temporaries
from losses_core.utils.boxes import area, sides

_threshold_backward = torch.ops.aten.threshold_backward.default


class Geometry:
    """A pair of boxes per element. Pairs of numbers are (2,…): x, then y. Everything else is (…).

    With few boxes the number of operations is what takes time, so one measures as much as it can.

    Args:
        pred: corners (2,2,…), low and high.
        target: likewise.
        eps: lower bound of every denominator.
        hull: whether the smallest box around both is asked for.

    Attributes:
        sides: of the target, the prediction, their intersection and, if asked for, their hull, (3 or 4,2,…); before
            clamping at 0, so negative where a box is inverted or the two are apart.
        size: the sides clamped at 0.
        inter, union: areas.
        denominator: the union, at least eps.
        iou: intersection over union.
    """

    def __init__(self, pred: Tensor, target: Tensor, eps: float, *, hull: bool) -> None:
        self.sides = torch.stack(sides(pred, target, hull=hull))
        self.size = self.sides.clamp(min=0)
        target_area, pred_area, self.inter, *self._hull_area = area(self.size.movedim(1, 0)).unbind(0)
        self.union = target_area + pred_area - self.inter
        self.eps = eps
        self.denominator = self.union.clamp(min=eps)
        self.iou = self.inter / self.denominator
        self._corners = pred, target
        self._offset: Tensor | None = None
        self._hull_square: Tensor | None = None

    @property
    def target(self) -> Tensor:
        """Size of the target, (2,…)."""
        return self.size[0]

    @property
    def pred(self) -> Tensor:
        """Size of the prediction, (2,…)."""
        return self.size[1]

    @property
    def hull_area(self) -> Tensor:
        """Area of the hull, (…), if asked for."""
        return self._hull_area[0]

    @property
    def hull(self) -> Tensor:
        """Size of the hull, (2,…)."""
        return self.size[3]

    @property
    def hull_square(self) -> Tensor:
        """Squared sides of the hull, (2,…)."""
        if self._hull_square is None:
            self._hull_square = self.hull.square()
        return self._hull_square

    @property
    def offset(self) -> Tensor:
        """Corners of the target minus those of the prediction, (2,2,…)."""
        if self._offset is None:
            pred, target = self._corners
            self._offset = target - pred
        return self._offset

    @property
    def shift(self) -> Tensor:
        """Centre of the target minus centre of the prediction, (2,…)."""
        low, high = self.offset.unbind(0)
        return (low + high) * 0.5


class Slopes(NamedTuple):
    """Derivatives of a term in the quantities it depends on; None where it does not."""

    union: Tensor | None = None
    hull_area: Tensor | None = None
    size: Tensor | None = None
    hull: Tensor | None = None
    shift: Tensor | None = None

    def __add__(self, other: Slopes) -> Slopes:  # type: ignore[override]
        return Slopes(*(add(a, b) for a, b in zip(self, other, strict=True)))


def add(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """The sum of what is there."""
    if a is None or b is None:
        return b if a is None else a
    return a + b


def where_above(limit: float, x: Tensor, value: Tensor) -> Tensor:
    """``value`` where ``x > limit``, else 0, whatever ``value`` holds there.

    The derivative of a clamp from below, in one pass: on a CPU a comparison and a `torch.where` take ten times as long.
    """
    return _threshold_backward(value, x, limit)  # type: ignore[no-any-return]


def square_sum(pair: Tensor) -> Tensor:
    """x² + y² of (2,…)."""
    x, y = pair.unbind(0)
    return torch.addcmul(x * x, y, y)


def corner_slopes(g: Geometry, overlap: Tensor | None, slopes: Slopes) -> Tensor:
    """Chain rule: from slopes in IoU (None: -1), areas, sides and shift to slopes in the corners, (2,2,…).

    Where two edges coincide they share the slope, half each, as in `torch.maximum`; so at equal boxes it is 0.
    """
    inverse = g.denominator.reciprocal().neg() if overlap is None else overlap / g.denominator
    # a denominator that is clamped does not change with the union
    by_union = where_above(g.eps, g.union, inverse * g.iou)
    own = -by_union if slopes.union is None else slopes.union - by_union
    areas = [own, inverse - own]
    if slopes.hull_area is not None:
        areas.append(slopes.hull_area)
    # the area's derivative by the width is the height; the target does not move
    last = 1 + len(areas)
    by_side = torch.stack(areas).unsqueeze(1) * g.size[1:last].flip(1)
    if slopes.size is not None:
        by_side[0].add_(slopes.size)
    # a side of 0 still feels the slope, or a box of height 0 could never grow
    by_side = where_above(-torch.finfo(by_side.dtype).tiny, g.sides[1:last], by_side)
    by_size, by_shared, *by_hull = by_side.unbind(0)
    outer = add(by_hull[0] if by_hull else None, slopes.hull)
    # whose edge lies further out decides whether moving it moves the hull or the intersection
    further = torch.sign(g.offset) * (by_shared if outer is None else by_shared - outer)
    if slopes.shift is not None:
        further = temporaries.sub(further, slopes.shift)
    low, high = temporaries.mul(further, 0.5).unbind(0)
    stretch = torch.add(by_size, by_shared if outer is None else by_shared + outer, alpha=0.5)
    return torch.stack((low - stretch, high + stretch))
