"""Rotated boxes as Gaussians, and the distances of two of them, without a determinant of a matrix.

With the standard deviations u, v along the sides of a box and Δ the difference of the angles, determinants and traces
of the covariance matrices have closed forms in which nothing cancels for thin boxes.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from losses_det._geometry import root

AngleUnit = Literal["radian", "degree"]
ANGLE_UNITS: tuple[AngleUnit, ...] = get_args(AngleUnit)

Transform = Literal["log1p", "sqrt", "none"]
TRANSFORMS: tuple[Transform, ...] = get_args(Transform)


class Gaussians(NamedTuple):
    """A prediction and a target per row, (…) each.

    Attributes:
        u, v: standard deviations of the prediction along its width and height; u2, v2: of the target.
        x, y: centre of the target minus centre of the prediction, along the axes of the prediction.
        along, across: the same along the axes of the target.
        cos, sin: of the angle of the prediction minus that of the target.
        axes: cosine and sine of the angle of the prediction, then of the target.
    """

    u: Tensor
    v: Tensor
    u2: Tensor
    v2: Tensor
    x: Tensor
    y: Tensor
    along: Tensor
    across: Tensor
    cos: Tensor
    sin: Tensor
    axes: tuple[Tensor, Tensor, Tensor, Tensor]


def gaussians(pred: Tensor, target: Tensor, share: float, floor: float, angle_unit: AngleUnit) -> Gaussians:
    """Gaussians of boxes (…,5); variances are ``share`` times the squared sides, plus ``floor``."""
    x, y, w, h, angle = pred.unbind(-1)
    x2, y2, w2, h2, angle2 = target.unbind(-1)
    unit = 1.0 if angle_unit == "radian" else math.pi / 180
    dx, dy = x2 - x, y2 - y
    u, v, u2, v2 = ((share * side.square() + floor).sqrt() for side in (w, h, w2, h2))
    (cos, sin), (cos2, sin2) = ((torch.cos(a * unit), torch.sin(a * unit)) for a in (angle, angle2))
    turn = (angle - angle2) * unit
    return Gaussians(
        u,
        v,
        u2,
        v2,
        cos * dx + sin * dy,
        cos * dy - sin * dx,
        cos2 * dx + sin2 * dy,
        cos2 * dy - sin2 * dx,
        torch.cos(turn),
        torch.sin(turn),
        (cos, sin, cos2, sin2),
    )


def bhattacharyya(g: Gaussians) -> Tensor:
    """¼ dᵀ(Σp+Σt)⁻¹d + ½ ln(det(Σp+Σt) / (4 √(detΣp detΣt)))."""
    product = 4 * g.u * g.v * g.u2 * g.v2
    parts = (g.u * g.v - g.u2 * g.v2).square()
    parts = parts + ((g.u * g.v2 - g.v * g.u2) * g.cos).square() + ((g.u * g.u2 - g.v * g.v2) * g.sin).square()
    excess = parts / product
    # the adjugate of a sum is the sum of the adjugates, whose axes are swapped
    adjugate = (g.v * g.x).square() + (g.u * g.y).square() + (g.v2 * g.along).square() + (g.u2 * g.across).square()
    return 0.25 * adjugate / (product * (1 + excess)) + 0.5 * torch.log1p(excess)


def wasserstein_square(g: Gaussians, alpha: float) -> Tensor:
    """|d|² + α² (tr Σp + tr Σt - 2 tr(Σp^½ Σt Σp^½)^½)."""
    p, q = g.u * g.u2 + g.v * g.v2, g.u * g.v2 + g.v * g.u2
    spread = (g.u.square() - g.v.square()) * (g.u2.square() - g.v2.square()) * g.sin.square()
    turned = 2 * spread / (p + torch.hypot(p * g.cos, q * g.sin))
    shape = (g.u - g.u2).square() + (g.v - g.v2).square() + turned
    return g.x.square() + g.y.square() + alpha * alpha * shape


def normalized(distance: Tensor, g: Gaussians) -> Tensor:
    """A distance over 2 (detΣp detΣt)^(1/8), a size of both boxes."""
    return distance / (2 * (g.u * g.v * g.u2 * g.v2).sqrt().sqrt())


def kullback_leibler(g: Gaussians, alpha: float) -> Tensor:
    """½ dᵀΣp⁻¹d / α² + ½ tr(Σp⁻¹Σt) + ½ ln(detΣp / detΣt) - 1."""
    shift = (g.x / g.u).square() + (g.y / g.v).square()
    turned = (g.u2.square() - g.v2.square()) * (g.v.square().reciprocal() - g.u.square().reciprocal()) * g.sin.square()
    return 0.5 * (shift / (alpha * alpha) + turned) + _beyond_log(g.u2, g.u) + _beyond_log(g.v2, g.v)


def _beyond_log(a: Tensor, b: Tensor) -> Tensor:
    """½ (r² - 1) - ln r with r = a / b, which is 0 at 1 and positive elsewhere."""
    step = (a - b) / b
    near = step.abs() < 0.5
    logarithm = torch.where(near, torch.log1p(step.masked_fill(~near, 0)), (a / b).log())
    return step + 0.5 * step * step - logarithm


def transformed(distance: Tensor, fun: Transform, tau: float) -> Tensor:
    """f of a distance, and 1 - 1/(τ + f) where τ ≥ 1."""
    value = torch.log1p(distance) if fun == "log1p" else root(distance) if fun == "sqrt" else distance
    return value if tau == 0 else 1 - 1 / (tau + value)
