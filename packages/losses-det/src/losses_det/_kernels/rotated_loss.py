"""Kernels of the losses of rotated boxes: derivatives by the quantities of `_gaussians`, and the chain rule."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from losses_core.kernels import kernel
from losses_det._gaussians import (
    AngleUnit,
    Gaussians,
    Transform,
    bhattacharyya,
    gaussians,
    kullback_leibler,
    normalized,
    wasserstein_square,
)
from losses_det._geometry import root
from losses_det.rotated_loss.functions import HALF_SIDE, UNIFORM, ProbIoUMode, gwd_loss, kld_loss, probiou_loss

Result = tuple[Tensor, Tensor | None]


class Grads(NamedTuple):
    """Derivatives by quantities of a prediction; ``turn``: by its angle, where the centre is fixed in both systems."""

    u: Tensor
    v: Tensor
    x: Tensor
    y: Tensor
    turn: Tensor
    along: Tensor | None = None
    across: Tensor | None = None


def _to_boxes(pred: Tensor, g: Gaussians, grads: Grads, factor: Tensor, share: float, angle_unit: AngleUnit) -> Tensor:
    """Chain rule from the quantities to cx, cy, w, h and angle, times ``factor``."""
    cos, sin, cos2, sin2 = g.axes
    by_x, by_y = cos * grads.x - sin * grads.y, sin * grads.x + cos * grads.y
    if grads.along is not None and grads.across is not None:
        by_x = by_x + (cos2 * grads.along - sin2 * grads.across)
        by_y = by_y + (sin2 * grads.along + cos2 * grads.across)
    by_w, by_h = (share * pred[..., 2] / g.u) * grads.u, (share * pred[..., 3] / g.v) * grads.v
    by_angle = grads.turn + grads.x * g.y - grads.y * g.x
    if angle_unit == "degree":
        by_angle = by_angle * (math.pi / 180)
    return torch.stack((-by_x, -by_y, by_w, by_h, by_angle), -1).mul_(factor.unsqueeze(-1))


def _half_inverse(x: Tensor) -> Tensor:
    """½ / x, the derivative of a root that is x; 0 where that is 0."""
    return (0.5 / x).masked_fill_(x == 0, 0)


def _transformed(distance: Tensor, fun: Transform, tau: float) -> tuple[Tensor, Tensor]:
    """f of a distance, in 1 - 1/(τ + f) where τ ≥ 1, and the derivative."""
    if fun == "log1p":
        value, derivative = torch.log1p(distance), 1 / (1 + distance)
    elif fun == "sqrt":
        value = root(distance)
        derivative = _half_inverse(value)
    else:
        value, derivative = distance, torch.ones_like(distance)
    if tau == 0:
        return value, derivative
    inverse = 1 / (tau + value)
    return 1 - inverse, derivative.mul_(inverse).mul_(inverse)


@kernel(probiou_loss, temporaries=12)
def probiou_kernel(
    x: Tensor, target: Tensor, *, mode: ProbIoUMode, floor: float, angle_unit: AngleUnit, needs_grad: bool
) -> Result:
    """B = A / 4M + ½ ln(M / 4u₁v₁u₂v₂), M the determinant of the sum, A the adjugate's form of the difference."""
    g = gaussians(x, target, UNIFORM, floor, angle_unit)
    distance = bhattacharyya(g)
    value = root(-torch.expm1(-distance)) if mode == "l1" else distance
    if not needs_grad:
        return value, None
    factor = _half_inverse(value).mul_(torch.exp(-distance)) if mode == "l1" else torch.ones_like(distance)
    mixed, crossed, equal = g.u * g.v + g.u2 * g.v2, g.u * g.v2 - g.v * g.u2, g.u * g.u2 - g.v * g.v2
    c2, s2 = g.cos.square(), g.sin.square()
    determinant = mixed.square() + crossed.square() * c2 + equal.square() * s2
    form = (g.v * g.x).square() + (g.u * g.y).square() + (g.v2 * g.along).square() + (g.u2 * g.across).square()
    half = 0.5 / determinant
    by_det = half * (1 - form * half)
    grads = Grads(
        u=half * g.u * g.y.square() + 2 * by_det * (g.v * mixed + g.v2 * c2 * crossed + g.u2 * s2 * equal) - 0.5 / g.u,
        v=half * g.v * g.x.square() + 2 * by_det * (g.u * mixed - g.u2 * c2 * crossed - g.v2 * s2 * equal) - 0.5 / g.v,
        x=half * g.v.square() * g.x,
        y=half * g.u.square() * g.y,
        turn=2 * by_det * g.sin * g.cos * (equal.square() - crossed.square()),
        along=half * g.v2.square() * g.along,
        across=half * g.u2.square() * g.across,
    )
    return value, _to_boxes(x, g, grads, factor, UNIFORM, angle_unit)


@kernel(gwd_loss, temporaries=12)
def gwd_kernel(
    x: Tensor,
    target: Tensor,
    *,
    fun: Transform,
    tau: float,
    alpha: float,
    normalize: bool,
    floor: float,
    angle_unit: AngleUnit,
    needs_grad: bool,
) -> Result:
    """The trace of the root is H = √((P cos)² + (Q sin)²), with P = u₁u₂ + v₁v₂ and Q = u₁v₂ + v₁u₂."""
    g = gaussians(x, target, HALF_SIDE, floor, angle_unit)
    distance = root(wasserstein_square(g, alpha))
    scaled = normalized(distance, g) if normalize else distance
    value, derivative = _transformed(scaled, fun, tau)
    if not needs_grad:
        return value, None
    p, q = (g.u * g.u2 + g.v * g.v2) * g.cos, (g.u * g.v2 + g.v * g.u2) * g.sin
    inverse = 1 / torch.hypot(p, q)
    p, q = p * g.cos * inverse, q * g.sin * inverse
    half = _half_inverse(distance)
    shape = 2 * alpha * alpha * half
    turn = (g.u.square() - g.v.square()) * (g.u2.square() - g.v2.square()) * (g.sin * g.cos * inverse)
    u, v = shape * (g.u - p * g.u2 - q * g.v2), shape * (g.v - p * g.v2 - q * g.u2)
    grads = Grads(u=u, v=v, x=2 * half * g.x, y=2 * half * g.y, turn=shape * turn)
    if normalize:
        size = normalized(torch.ones_like(distance), g)
        u, v = u * size - 0.25 * scaled / g.u, v * size - 0.25 * scaled / g.v
        grads = Grads(u, v, x=grads.x * size, y=grads.y * size, turn=grads.turn * size)
    return value, _to_boxes(x, g, grads, derivative, HALF_SIDE, angle_unit)


@kernel(kld_loss, temporaries=12)
def kld_kernel(
    x: Tensor,
    target: Tensor,
    *,
    fun: Transform,
    tau: float,
    alpha: float,
    sqrt: bool,
    floor: float,
    angle_unit: AngleUnit,
    needs_grad: bool,
) -> Result:
    """Shift, sides and angle have separate terms."""
    g = gaussians(x, target, HALF_SIDE, floor, angle_unit)
    divergence = kullback_leibler(g, alpha)
    distance = root(divergence) if sqrt else divergence
    value, derivative = _transformed(distance, fun, tau)
    if not needs_grad:
        return value, None
    if sqrt:
        derivative = derivative * _half_inverse(distance)
    u, v = 1 / g.u, 1 / g.v
    along, across = g.x * u / alpha, g.y * v / alpha
    spread = (g.u2.square() - g.v2.square()) * g.sin
    turned = spread * g.sin
    grads = Grads(
        u=u * ((g.u - g.u2) * (g.u + g.u2) * u * u + turned * u * u - along.square()),
        v=v * ((g.v - g.v2) * (g.v + g.v2) * v * v - turned * v * v - across.square()),
        x=along * u / alpha,
        y=across * v / alpha,
        turn=spread * g.cos * (v.square() - u.square()),
    )
    return value, _to_boxes(x, g, grads, derivative, HALF_SIDE, angle_unit)
