"""The terms that the losses of the IoU family add to the overlap: each a value and its slopes.

A term is symmetric in the two boxes, so its slope in the target is its slope with the boxes exchanged. Every denominator
is clamped at eps from below; the slope of a clamped denominator is 0.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Protocol

import torch
from torch import Tensor

from losses_core.utils.boxes import area
from losses_det._geometry import Geometry, Slopes, square_sum, where_above


class Term(Protocol):
    """A term of a loss as a function of the geometry."""

    def value(self, g: Geometry) -> Tensor:
        """The term, (…)."""

    def slopes(self, g: Geometry) -> Slopes:
        """Its derivatives, in differentiable operations."""


class EmptyHull:
    """(E - union) / E: the share of the enclosing box that belongs to neither (GIoU)."""

    def value(self, g: Geometry) -> Tensor:
        hull = area(g.hull)
        return (hull - g.overlap.union) / hull.clamp(min=g.eps)

    def slopes(self, g: Geometry) -> Slopes:
        hull = area(g.hull)
        inverse = 1 / hull.clamp(min=g.eps)
        empty = (hull - g.overlap.union) * inverse
        slope = inverse - where_above(g.eps, hull, empty * inverse)
        return Slopes(union=-inverse, hull=slope * g.hull.size.flip(0))


class CentreDistance:
    """d² / c²: squared distance of the centres over the squared diagonal of the hull (DIoU, CIoU, EIoU)."""

    def value(self, g: Geometry) -> Tensor:
        return square_sum(g.shift) / square_sum(g.hull.size).clamp(min=g.eps)

    def slopes(self, g: Geometry) -> Slopes:
        shift, diagonal = g.shift, square_sum(g.hull.size)
        inverse = 2 / diagonal.clamp(min=g.eps)
        ratio = square_sum(shift) * inverse * inverse / 2
        return Slopes(hull=-where_above(g.eps, diagonal, ratio) * g.hull.size, shift=shift * inverse)


class AspectRatio:
    """α v with v = 4/π² (angle of the target's diagonal - angle of the prediction's)², α constant (CIoU)."""

    def value(self, g: Geometry) -> Tensor:
        v = 4 / math.pi**2 * self._turn(g).square()
        return self._alpha(g, v) * v

    def slopes(self, g: Geometry) -> Slopes:
        turn = self._turn(g)
        alpha = self._alpha(g, 4 / math.pi**2 * turn.square())
        width, height = g.overlap.first.size.unbind(0)
        # the angle turns by 1/length: without a bound the slope of a box of size 0 is infinite
        scale = 8 / math.pi**2 * alpha * turn / square_sum(g.overlap.first.size).clamp(min=g.eps)
        return Slopes(size=torch.stack((scale * height, -scale * width)))

    def _turn(self, g: Geometry) -> Tensor:
        return torch.atan2(*g.overlap.first.size.unbind(0)) - torch.atan2(*g.overlap.second.size.unbind(0))

    def _alpha(self, g: Geometry, v: Tensor) -> Tensor:
        return v / ((1 - g.iou) + v).clamp(min=g.eps)


class SideDifference:
    """(w - w')² / ew² + (h - h')² / eh²: each side's difference over that of the hull (EIoU)."""

    def value(self, g: Geometry) -> Tensor:
        difference = g.overlap.first.size - g.overlap.second.size
        return (difference.square() / g.hull.size.square().clamp(min=g.eps)).sum(0)

    def slopes(self, g: Geometry) -> Slopes:
        difference, square = g.overlap.first.size - g.overlap.second.size, g.hull.size.square()
        slope = 2 * difference / square.clamp(min=g.eps)
        hull = where_above(g.eps, square, slope * difference / square.clamp(min=g.eps))
        return Slopes(size=slope, hull=-hull * g.hull.size)


class AngleDistance:
    """½ Σ 1 - exp(-(2-A) ρ²), ρ the shift over the side of the hull, A = sin 2α of its direction (SIoU)."""

    def value(self, g: Geometry) -> Tensor:
        shift = g.shift
        relative = shift / g.hull.size.clamp(min=g.eps)
        return -torch.expm1((self._angle(g, shift) - 2) * relative.square()).sum(0) / 2

    def slopes(self, g: Geometry) -> Slopes:
        shift = g.shift
        inverse = 1 / g.hull.size.clamp(min=g.eps)
        relative = shift * inverse
        angle = self._angle(g, shift)
        decay = torch.exp((angle - 2) * relative.square()) * relative
        along = (2 - angle) * decay * inverse
        turned = -(decay * relative).sum(0) / 2
        d2 = square_sum(shift)
        across = 2 * torch.sign(shift) * shift.abs().flip(0) - where_above(g.eps, d2, 2 * angle) * shift
        return Slopes(
            hull=-where_above(g.eps, g.hull.size, along * relative),
            shift=along + turned * across / d2.clamp(min=g.eps),
        )

    def _angle(self, g: Geometry, shift: Tensor) -> Tensor:
        x, y = shift.unbind(0)
        return 2 * (x * y).abs() / square_sum(shift).clamp(min=g.eps)


@dataclasses.dataclass(frozen=True)
class Shape:
    """½ Σ (1 - exp(-ω))^θ, ω = |difference of a side| / the longer one (SIoU)."""

    theta: float

    def value(self, g: Geometry) -> Tensor:
        difference, longer = self._sides(g)
        return self._power(-torch.expm1(-difference.abs() / longer.clamp(min=g.eps)), self.theta).sum(0) / 2

    def slopes(self, g: Geometry) -> Slopes:
        difference, longer = self._sides(g)
        inverse = 1 / longer.clamp(min=g.eps)
        omega = difference.abs() * inverse
        # the longer side is this one where the difference is positive
        own = where_above(0, difference, where_above(g.eps, longer, omega))
        growth = self._power(-torch.expm1(-omega), self.theta - 1) * torch.exp(-omega)
        return Slopes(size=self.theta / 2 * growth * (torch.sign(difference) - own) * inverse)

    def _sides(self, g: Geometry) -> tuple[Tensor, Tensor]:
        first, second = g.overlap.first.size, g.overlap.second.size
        return first - second, torch.maximum(first, second)

    def _power(self, base: Tensor, exponent: float) -> Tensor:
        # on a CPU a power takes thirty times as long as a product
        if exponent == 4:
            return base.square().square()
        return base.square() * base if exponent == 3 else base.pow(exponent)
