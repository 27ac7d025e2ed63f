"""The terms that the losses of the IoU family add to the overlap: each a value and its slopes.

A term is symmetric in the two boxes, so its slope in the target is its slope with the boxes exchanged. Every
denominator is clamped at eps from below, and a clamped denominator has slope 0.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from losses_det._geometry import Geometry, Slopes, square_sum, where_above

Evaluated: TypeAlias = tuple[Tensor, Callable[[], Slopes]]


class Term(Protocol):
    """A term of a loss as a function of the geometry."""

    def __call__(self, g: Geometry) -> Evaluated:
        """The term, (…), and a function that gives its derivatives, in differentiable operations."""


def empty_hull(g: Geometry) -> Evaluated:
    """(E - union) / E: the share of the hull that belongs to neither box (GIoU)."""
    inverse = g.hull_area.clamp(min=g.eps).reciprocal()
    value = (g.hull_area - g.union) * inverse

    def slopes() -> Slopes:
        return Slopes(union=-inverse, hull_area=inverse - where_above(g.eps, g.hull_area, value * inverse))

    return value, slopes


def centre_distance(g: Geometry) -> Evaluated:
    """d²/c²: squared distance of the centres over the squared diagonal of the hull (DIoU, CIoU, EIoU)."""
    shift, (width, height) = g.shift, g.hull_square.unbind(0)
    diagonal = width + height
    inverse = diagonal.clamp(min=g.eps).reciprocal()
    value = square_sum(shift) * inverse

    def slopes() -> Slopes:
        twice = 2 * inverse
        return Slopes(hull=where_above(g.eps, diagonal, value * -twice) * g.hull, shift=twice * shift)

    return value, slopes


def aspect_ratio(g: Geometry) -> Evaluated:
    """α v with v = 4/π² (difference of the diagonals' angles)², and α = v / (1 - IoU + v) a constant (CIoU)."""
    (width, height), target = g.pred.unbind(0), g.target.unbind(0)
    turn = torch.atan2(width, height) - torch.atan2(*target)
    v = 4 / math.pi**2 * turn.square()
    alpha = v / ((1 - g.iou) + v).clamp(min=g.eps)

    def slopes() -> Slopes:
        # the angle turns by 1/length: without a bound the slope at a box of size 0 is infinite
        scale = 8 / math.pi**2 * alpha * turn / square_sum(g.pred).clamp(min=g.eps)
        return Slopes(size=torch.stack((scale * height, -scale * width)))

    return alpha * v, slopes


def side_difference(g: Geometry) -> Evaluated:
    """(w-w')²/ew² + (h-h')²/eh²: the difference of each side over that of the hull (EIoU)."""
    difference, square = g.pred - g.target, g.hull_square
    relative = difference / square.clamp(min=g.eps)

    def slopes() -> Slopes:
        return Slopes(size=2 * relative, hull=where_above(g.eps, square, -2 * relative.square()) * g.hull)

    return (difference * relative).sum(0), slopes


def angle_distance(g: Geometry) -> Evaluated:
    """½ Σ 1 - exp(-(2-A) ρ²), with ρ the shift over the side of the hull and A = sin 2α of its direction (SIoU)."""
    shift, bound = g.shift, g.hull.clamp(min=g.eps)
    x, y = shift.unbind(0)
    d2 = square_sum(shift)
    direction = d2.clamp(min=g.eps).reciprocal()
    angle = 2 * (x * y).abs() * direction
    relative = shift / bound
    squared, stiff = relative.square(), angle - 2
    far = torch.expm1(stiff * squared)

    def slopes() -> Slopes:
        decay = far + 1
        along = -stiff * decay * relative / bound
        by_angle = (decay * squared).sum(0) / -2 * direction
        by_shift = 2 * torch.sign(shift) * shift.abs().flip(0) - where_above(g.eps, d2, 2 * angle) * shift
        return Slopes(hull=where_above(g.eps, g.hull, -along * relative), shift=along + by_angle * by_shift)

    return far.sum(0) / -2, slopes


@dataclasses.dataclass(frozen=True)
class SideRatio:
    """½ Σ (1 - exp(-ω))^θ, with ω = |difference of a side| over the longer one (SIoU)."""

    theta: float

    def __call__(self, g: Geometry) -> Evaluated:
        difference, longer = g.pred - g.target, torch.maximum(g.pred, g.target)
        inverse = longer.clamp(min=g.eps).reciprocal()
        omega = difference.abs() * inverse
        base = -torch.expm1(-omega)
        power = _power(base, self.theta - 1)

        def slopes() -> Slopes:
            # a longer prediction also lengthens the denominator
            own = where_above(0, difference, where_above(g.eps, longer, omega))
            size = self.theta / 2 * power * (1 - base) * (torch.sign(difference) - own) * inverse
            return Slopes(size=size)

        return (power * base).sum(0) / 2, slopes


def _power(base: Tensor, exponent: float) -> Tensor:
    # on a CPU a power takes thirty times as long as a product; 3 is what the default asks for
    return base.square() * base if exponent == 3 else base.pow(exponent)
