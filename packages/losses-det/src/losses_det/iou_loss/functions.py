"""The IoU losses as functions: f(IoU) plus terms of `losses_det._geometry`."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from losses_core.errors import InputError
from losses_core.kernels import definition
from losses_core.utils import checks
from losses_core.utils.boxes import BOX_FORMATS, BoxFormat
from losses_det._geometry import (
    MODES,
    Mode,
    angle_distance,
    aspect_ratio,
    box_pair,
    centre_distance,
    empty_hull,
    overlap_loss,
    side_difference,
    side_ratio,
)


def _prepare(pred: Any, target: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    for name, known in (("mode", MODES), ("bbox_format", BOX_FORMATS)):
        if options[name] not in known:
            raise InputError(f"{name}: expected one of {', '.join(map(repr, known))}; got {options[name]!r}.")
    checks.tensor("pred", pred)
    checks.tensor("target", target)
    if pred.ndim == 0 or pred.shape[-1] != 4:
        raise InputError(f"expected pred with boxes of shape (…, 4); got {tuple(pred.shape)}.")
    if pred.shape != target.shape:
        raise InputError(
            f"expected target of the shape of pred {tuple(pred.shape)}; got {tuple(target.shape)}. "
            "Boxes are compared row by row: match them first, for example with compute_iou(..., pairwise=True)."
        )
    return pred, target if target.is_floating_point() else target.to(pred.dtype), options


@definition(layout="last", prepare=_prepare)
def iou_loss(
    pred: Tensor, target: Tensor, *, mode: Mode = "log", eps: float = 1e-6, bbox_format: BoxFormat = "xyxy"
) -> Tensor:
    """f(IoU) of each pair of boxes, unreduced: see `IoULoss`.

    Args:
        pred: boxes (…,4).
        target: boxes of the shape of ``pred``; integers are accepted.
        mode: ``log`` -ln IoU, ``linear`` = ``iou`` 1 - IoU, ``square`` 1 - IoU².
        eps: lower bound of every denominator, and of the IoU in ``log``.
        bbox_format: ``xyxy``, ``xywh`` = ``cxcywh``, or ``ltwh``.

    Returns:
        (…)

    Raises:
        InputError: a last axis that is not 4, unequal shapes, an unknown mode or format.
    """
    return overlap_loss(box_pair(pred, target, eps, bbox_format), mode)


@definition(layout="last", prepare=_prepare)
def giou_loss(
    pred: Tensor, target: Tensor, *, mode: Mode = "linear", eps: float = 1e-6, bbox_format: BoxFormat = "xyxy"
) -> Tensor:
    """f(IoU) plus the empty share of the hull, unreduced: see `GIoULoss`; arguments as in `iou_loss`."""
    pair = box_pair(pred, target, eps, bbox_format)
    return overlap_loss(pair, mode) + empty_hull(pair)


@definition(layout="last", prepare=_prepare)
def diou_loss(
    pred: Tensor, target: Tensor, *, mode: Mode = "linear", eps: float = 1e-6, bbox_format: BoxFormat = "xyxy"
) -> Tensor:
    """f(IoU) plus the distance of the centres, unreduced: see `DIoULoss`; arguments as in `iou_loss`."""
    pair = box_pair(pred, target, eps, bbox_format)
    return overlap_loss(pair, mode) + centre_distance(pair)


@definition(layout="last", prepare=_prepare)
def ciou_loss(
    pred: Tensor, target: Tensor, *, mode: Mode = "linear", eps: float = 1e-6, bbox_format: BoxFormat = "xyxy"
) -> Tensor:
    """f(IoU) plus distance and aspect ratio, unreduced: see `CIoULoss`; arguments as in `iou_loss`."""
    pair = box_pair(pred, target, eps, bbox_format)
    return overlap_loss(pair, mode) + centre_distance(pair) + aspect_ratio(pair)


@definition(layout="last", prepare=_prepare)
def eiou_loss(
    pred: Tensor, target: Tensor, *, mode: Mode = "linear", eps: float = 1e-6, bbox_format: BoxFormat = "xyxy"
) -> Tensor:
    """f(IoU) plus distance and side differences, unreduced: see `EIoULoss`; arguments as in `iou_loss`."""
    pair = box_pair(pred, target, eps, bbox_format)
    return overlap_loss(pair, mode) + centre_distance(pair) + side_difference(pair)


@definition(layout="last", prepare=_prepare)
def siou_loss(
    pred: Tensor,
    target: Tensor,
    *,
    mode: Mode = "linear",
    eps: float = 1e-6,
    bbox_format: BoxFormat = "xyxy",
    theta: float = 4.0,
) -> Tensor:
    """f(IoU) plus angle-aware distance and shape, unreduced: see `SIoULoss`.

    Args:
        pred: boxes (…,4).
        target: boxes of the shape of ``pred``.
        mode: as in `iou_loss`.
        eps: as in `iou_loss`.
        bbox_format: as in `iou_loss`.
        theta: exponent of the shape term ≥ 1.

    Returns:
        (…)
    """
    pair = box_pair(pred, target, eps, bbox_format)
    return overlap_loss(pair, mode) + angle_distance(pair) + side_ratio(pair, theta)
