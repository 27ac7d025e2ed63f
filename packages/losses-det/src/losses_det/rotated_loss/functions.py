"""Distances of rotated boxes as Gaussians: ProbIoU, Gaussian Wasserstein distance, Kullback-Leibler divergence."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from losses_core.errors import InputError
from losses_core.kernels import Prepared, definition
from losses_core.utils import checks
from losses_det._gaussians import (
    ANGLE_UNITS,
    TRANSFORMS,
    AngleUnit,
    Transform,
    bhattacharyya,
    gaussians,
    kullback_leibler,
    normalized,
    transformed,
    wasserstein_square,
)
from losses_det._geometry import root

ProbIoUMode = Literal["l1", "l2"]
PROBIOU_MODES: tuple[ProbIoUMode, ...] = get_args(ProbIoUMode)

UNIFORM, HALF_SIDE = 1 / 12, 1 / 4
"""Variance over the squared side: of a uniform distribution; where half the side is the standard deviation."""


def _prepare(pred: Any, target: Any, **options: Any) -> Prepared:
    checks.tensor("pred", pred)
    checks.tensor("target", target)
    if pred.ndim == 0 or pred.shape[-1] != 5:
        raise InputError(f"expected pred with boxes (cx, cy, w, h, angle) of shape (…, 5); got {tuple(pred.shape)}.")
    checks.same_shape(pred, target)
    for name, known in (("angle_unit", ANGLE_UNITS), ("mode", PROBIOU_MODES), ("fun", TRANSFORMS)):
        if name in options and options[name] not in known:
            raise InputError(f"{name}: expected one of {', '.join(map(repr, known))}; got {options[name]!r}.")
    if not options["floor"] > 0:
        raise InputError(f"floor: expected a number > 0; got {options['floor']}.")
    if 0 < options.get("tau", 0) < 1 or options.get("tau", 0) < 0:
        raise InputError(f"tau: expected 0 or a number >= 1; got {options['tau']}.")
    return pred, target if target.is_floating_point() else target.to(pred.dtype), options


@definition(layout="last", prepare=_prepare)
def probiou_loss(
    pred: Tensor, target: Tensor, *, mode: ProbIoUMode = "l1", floor: float = 0.01, angle_unit: AngleUnit = "radian"
) -> Tensor:
    """Hellinger or Bhattacharyya distance of each pair of rotated boxes, unreduced: see `ProbIoULoss`.

    Args:
        pred: boxes (…,5): cx, cy, w, h, angle.
        target: boxes of the shape of ``pred``.
        mode: ``l1`` √(1 - e^-B), ``l2`` B, with the Bhattacharyya distance B.
        floor: added to both variances of both boxes, > 0.
        angle_unit: ``radian`` or ``degree``.

    Returns:
        (…)
    """
    distance = bhattacharyya(gaussians(pred, target, UNIFORM, floor, angle_unit))
    return root(-torch.expm1(-distance)) if mode == "l1" else distance


@definition(layout="last", prepare=_prepare)
def gwd_loss(
    pred: Tensor,
    target: Tensor,
    *,
    fun: Transform = "log1p",
    tau: float = 1.0,
    alpha: float = 1.0,
    normalize: bool = True,
    floor: float = 1e-6,
    angle_unit: AngleUnit = "radian",
) -> Tensor:
    """Gaussian Wasserstein distance of each pair of rotated boxes, unreduced: see `GWDLoss`.

    Args:
        pred: boxes (…,5): cx, cy, w, h, angle.
        target: boxes of the shape of ``pred``.
        fun: ``log1p``, ``sqrt`` or ``none``: f of the distance.
        tau: 0 for f, or τ ≥ 1 for 1 - 1/(τ + f).
        alpha: weight of the shape beside the centre > 0.
        normalize: divide the distance by a size of both boxes.
        floor: added to both variances of both boxes, > 0.
        angle_unit: ``radian`` or ``degree``.

    Returns:
        (…)
    """
    pair = gaussians(pred, target, HALF_SIDE, floor, angle_unit)
    distance = root(wasserstein_square(pair, alpha))
    return transformed(normalized(distance, pair) if normalize else distance, fun, tau)


@definition(layout="last", prepare=_prepare)
def kld_loss(
    pred: Tensor,
    target: Tensor,
    *,
    fun: Transform = "log1p",
    tau: float = 1.0,
    alpha: float = 1.0,
    sqrt: bool = True,
    floor: float = 1e-6,
    angle_unit: AngleUnit = "radian",
) -> Tensor:
    """Kullback-Leibler divergence of each pair of rotated boxes, unreduced: see `KLDLoss`.

    Args:
        pred: boxes (…,5): cx, cy, w, h, angle.
        target: boxes of the shape of ``pred``.
        fun: ``log1p``, ``sqrt`` or ``none``: f of the divergence.
        tau: 0 for f, or τ ≥ 1 for 1 - 1/(τ + f).
        alpha: weight of the shape beside the centre > 0.
        sqrt: f takes the root of the divergence.
        floor: added to both variances of both boxes, > 0.
        angle_unit: ``radian`` or ``degree``.

    Returns:
        (…)
    """
    divergence = kullback_leibler(gaussians(pred, target, HALF_SIDE, floor, angle_unit), alpha)
    return transformed(root(divergence) if sqrt else divergence, fun, tau)
