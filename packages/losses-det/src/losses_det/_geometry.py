"""Two boxes per row: the quantities that the losses of the IoU family are made of, and the way back to coordinates."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from losses_core.utils.boxes import Corners, Sides, enclosing, overlap


class Geometry:
    """A pair of boxes per element. Sides and differences are (2,…): x, then y; everything else is (…).

    Attributes:
        eps: lower bound of every denominator.
        overlap: areas that they share, and the sides of each.
        union: clamped from below.
        iou: intersection over union.
    """

    def __init__(self, pred: Corners, target: Corners, eps: float) -> None:
        self.pred, self.target, self.eps = pred, target, eps
        self.overlap = overlap(pred, target)
        self.union = self.overlap.union.clamp(min=eps)
        self.iou = self.overlap.inter / self.union
        self._hull: Sides | None = None

    @property
    def hull(self) -> Sides:
        """The smallest box around both."""
        if self._hull is None:
            self._hull = enclosing(self.pred, self.target)
        return self._hull

    @property
    def shift(self) -> Tensor:
        """Centre of the prediction minus centre of the target."""
        return ((self.pred.low - self.target.low) + (self.pred.high - self.target.high)) / 2


class Slopes(NamedTuple):
    """Derivatives of a term with respect to the quantities it depends on; None where it does not."""

    union: Tensor | None = None
    size: Tensor | None = None
    hull: Tensor | None = None
    shift: Tensor | None = None


def where_above(limit: float, x: Tensor, value: Tensor) -> Tensor:
    """``value`` where ``x > limit``, else 0, whatever ``value`` holds there.

    The derivative of a clamp from below, in one pass. On a CPU a comparison and `torch.where` take ten times as long.
    """
    return torch.ops.aten.threshold_backward(value, x, limit)  # type: ignore[no-any-return]


def square_sum(pair: Tensor) -> Tensor:
    """x² + y² of (2,…)."""
    x, y = pair.unbind(0)
    return torch.addcmul(x * x, y, y)


def add(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """The sum of what is there."""
    if a is None or b is None:
        return b if a is None else a
    return a + b


def to_corners(g: Geometry, overlap_slope: Tensor | float, slopes: Slopes) -> Corners:
    """Chain rule: from the slopes in IoU, union, sides, hull and shift to those in the corners of the prediction.

    Where two edges coincide they share the slope, half each, as in `torch.maximum`: so it is 0 at equal boxes.
    """
    scaled = overlap_slope / g.union
    union = _plus(where_above(g.eps, g.overlap.union, -scaled * g.iou), slopes.union)
    shared = _through_clamp(g.overlap.shared, (scaled - union) * _other(g.overlap.shared)) / 2
    size = _through_clamp(g.overlap.first, _plus(union * _other(g.overlap.first), slopes.size))
    outer = None if slopes.hull is None else _through_clamp(g.hull, slopes.hull) / 2
    stretch = size + _plus(shared, outer)  # what a longer side would change, were both ends to move
    lead = -shared if outer is None else outer - shared  # whose edge lies further out decides on hull or intersection
    low, high = torch.sign(g.pred.low - g.target.low) * lead, torch.sign(g.pred.high - g.target.high) * lead
    if slopes.shift is not None:
        half = slopes.shift / 2
        low, high = low + half, high + half
    return Corners(low - stretch, high + stretch)


def _plus(a: Tensor, b: Tensor | None) -> Tensor:
    return a if b is None else a + b


def _other(box: Sides) -> Tensor:
    """Height, width: the derivative of an area by width and height."""
    return box.size.flip(0)


def _through_clamp(box: Sides, slope: Tensor) -> Tensor:
    # an empty side still feels the slope, or a box of height 0 could never grow
    return where_above(-torch.finfo(slope.dtype).tiny, box.raw, slope)
