"""The terms that the losses of the IoU family add to the overlap: each a value and its slopes.

A term is symmetric in the two boxes, so its slope in the target is its slope with the boxes exchanged. Every denominator
is clamped at eps from below, and a clamped denominator has slope 0.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Protocol

import torch
from torch import Tensor

from losses_det._geometry import Geometry, Slopes, square_sum, where_above


class Term(Protocol):
    """A term of a loss as a function of the geometry."""

    def __call__(self, g: Geometry) -> tuple[Tensor, Slopes]:
        """The term, (…), and its derivatives, in differentiable operations."""


def empty_hull(g: Geometry) -> tuple[Tensor, Slopes]:
    """(E - union) / E: the share of the hull that belongs to neither box (GIoU)."""
    inverse = g.hull_area.clamp(min=g.eps).reciprocal()
    value = (g.hull_area - g.union) * inverse
    return value, Slopes(union=-inverse, hull_area=inverse - where_above(g.eps, g.hull_area, value * inverse))


def centre_distance(g: Geometry) -> tuple[Tensor, Slopes]:
    """d²/c²: squared distance of the centres over the squared diagonal of the hull (DIoU, CIoU, EIoU)."""
    shift, diagonal = g.shift, square_sum(g.hull)
    inverse = diagonal.clamp(min=g.eps).reciprocal()
    value = square_sum(shift) * inverse
    twice = 2 * inverse
    return value, Slopes(hull=-where_above(g.eps, diagonal, value * twice) * g.hull, shift=twice * shift)


def aspect_ratio(g: Geometry) -> tuple[Tensor, Slopes]:
    """α v with v = 4/π² (difference of the diagonals' angles)², and α = v / (1 - IoU + v) a constant (CIoU)."""
    (width, height), target = g.pred.unbind(0), g.target.unbind(0)
    turn = torch.atan2(width, height) - torch.atan2(*target)
    v = 4 / math.pi**2 * turn.square()
    alpha = v / ((1 - g.iou) + v).clamp(min=g.eps)
    # the angle turns by 1/length: without a bound the slope at a box of size 0 is infinite
    scale = 8 / math.pi**2 * alpha * turn / square_sum(g.pred).clamp(min=g.eps)
    return alpha * v, Slopes(size=torch.stack((scale * height, -scale * width)))


def side_difference(g: Geometry) -> tuple[Tensor, Slopes]:
    """(w-w')²/ew² + (h-h')²/eh²: the difference of each side over that of the hull (EIoU)."""
    difference, square = g.pred - g.target, g.hull.square()
    relative = difference / square.clamp(min=g.eps)
    value = difference * relative
    by_hull = where_above(g.eps, square, -2 * relative.square())
    return value.sum(0), Slopes(size=2 * relative, hull=by_hull * g.hull)


def angle_distance(g: Geometry) -> tuple[Tensor, Slopes]:
    """½ Σ 1 - exp(-(2-A) ρ²), with ρ the shift over the side of the hull and A = sin 2α of its direction (SIoU)."""
    shift, bound = g.shift, g.hull.clamp(min=g.eps)
    x, y = shift.unbind(0)
    d2 = square_sum(shift)
    direction = d2.clamp(min=g.eps).reciprocal()
    angle = 2 * (x * y).abs() * direction
    relative = shift / bound
    squared, stiff = relative.square(), 2 - angle
    decay = torch.exp(-stiff * squared)
    along = stiff * decay * relative / bound
    by_angle = -(decay * squared).sum(0) / 2 * direction
    by_shift = 2 * torch.sign(shift) * shift.abs().flip(0) - where_above(g.eps, d2, 2 * angle) * shift
    slopes = Slopes(hull=-where_above(g.eps, g.hull, along * relative), shift=along + by_angle * by_shift)
    return -torch.expm1(-stiff * squared).sum(0) / 2, slopes


@dataclasses.dataclass(frozen=True)
class SideRatio:
    """½ Σ (1 - exp(-ω))^θ, with ω = |difference of a side| over the longer one (SIoU)."""

    theta: float

    def __call__(self, g: Geometry) -> tuple[Tensor, Slopes]:
        difference, longer = g.pred - g.target, torch.maximum(g.pred, g.target)
        inverse = longer.clamp(min=g.eps).reciprocal()
        omega = difference.abs() * inverse
        base, decay = -torch.expm1(-omega), torch.exp(-omega)
        power = _power(base, self.theta - 1)
        # a longer prediction also lengthens the denominator
        own = where_above(0, difference, where_above(g.eps, longer, omega))
        slope = self.theta / 2 * power * decay * (torch.sign(difference) - own) * inverse
        return (power * base).sum(0) / 2, Slopes(size=slope)


def _power(base: Tensor, exponent: float) -> Tensor:
    # on a CPU a power takes thirty times as long as a product; 3 is what the default asks for
    return base.square() * base if exponent == 3 else base.pow(exponent)
