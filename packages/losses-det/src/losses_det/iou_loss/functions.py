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
    every_pair,
    side_difference,
    side_ratio,
    with_penalties,
)

POWER_MODES = ("iou", "linear")
"""Modes in which the loss has a power."""


def power_text(power: float, mode: str) -> str:
    """The error text for a power in another mode."""
    return f"power: expected 1 with mode={mode!r}; got {power}. A power is for mode='linear'."


def prepare_boxes(pred: Any, target: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Check boxes and the options of an IoU loss (`losses_core.kernels.Prepare`)."""
    for name, known in (("mode", MODES), ("bbox_format", BOX_FORMATS)):
        if name in options and options[name] not in known:
            raise InputError(f"{name}: expected one of {', '.join(map(repr, known))}; got {options[name]!r}.")
    if options.get("power", 1) != 1 and options["mode"] not in POWER_MODES:
        raise InputError(power_text(options["power"], options["mode"]))
    checks.tensor("pred", pred)
    checks.tensor("target", target)
    if pred.ndim == 0 or pred.shape[-1] != 4:
        raise InputError(f"expected pred with boxes of shape (…, 4); got {tuple(pred.shape)}.")
    if options.pop("pairwise", False):
        if target.ndim == 0 or target.shape[-1] != 4:
            raise InputError(f"expected target with boxes of shape (…, 4); got {tuple(target.shape)}.")
        pred, target = every_pair(pred, target)
        options["pairwise"] = True
    elif pred.shape != target.shape:
        raise InputError(
            f"expected target of the shape of pred {tuple(pred.shape)}; got {tuple(target.shape)}. "
            "Boxes are compared row by row: match them first, or compare every pair with pairwise=True."
        )
    return pred, target if target.is_floating_point() else target.to(pred.dtype), options


@definition(layout="last", prepare=prepare_boxes)
def iou_loss(
    pred: Tensor,
    target: Tensor,
    *,
    mode: Mode = "log",
    eps: float = 1e-6,
    bbox_format: BoxFormat = "xyxy",
    power: float = 1.0,
    inner_ratio: float | None = None,
    focal_gamma: float = 0.0,
    pairwise: bool = False,
) -> Tensor:
    """f(IoU) of each pair of boxes, unreduced: see `IoULoss`.

    Args:
        pred: boxes (…,4).
        target: boxes of the shape of ``pred``; integers are accepted.
        mode: ``log`` -ln IoU, ``linear`` = ``iou`` 1 - IoU, ``square`` 1 - IoU².
        eps: lower bound of every denominator, and of the IoU in ``log``.
        bbox_format: ``xyxy``, ``xywh`` = ``cxcywh``, or ``ltwh``.
        power: exponent of the IoU and of each penalty ≥ 1, in ``linear`` alone.
        inner_ratio: f takes the IoU of boxes scaled by it; None: of the boxes.
        focal_gamma: exponent ≥ 0 of the IoU that the loss is multiplied by.
        pairwise: every box of ``pred``, (…,Q,4), with every box of ``target``, (…,M,4).

    Returns:
        (…); (…,Q,M) with ``pairwise``.

    Raises:
        InputError: a last axis that is not 4, unequal shapes, an unknown mode or format, a power in another mode.

    Example:
        >>> import torch
        >>> boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 4.0]])
        >>> iou_loss(boxes, boxes[:1], mode="linear", pairwise=True)
        tensor([[0.0000],
                [0.5000]])
    """
    return with_penalties(box_pair(pred, target, eps, bbox_format, inner_ratio), mode, (), power, focal_gamma)


@definition(layout="last", prepare=prepare_boxes)
def giou_loss(
    pred: Tensor,
    target: Tensor,
    *,
    mode: Mode = "linear",
    eps: float = 1e-6,
    bbox_format: BoxFormat = "xyxy",
    power: float = 1.0,
    inner_ratio: float | None = None,
    focal_gamma: float = 0.0,
    pairwise: bool = False,
) -> Tensor:
    """f(IoU) plus the empty share of the hull, unreduced: see `GIoULoss`; arguments as in `iou_loss`."""
    pair = box_pair(pred, target, eps, bbox_format, inner_ratio)
    return with_penalties(pair, mode, [empty_hull(pair)], power, focal_gamma)


@definition(layout="last", prepare=prepare_boxes)
def diou_loss(
    pred: Tensor,
    target: Tensor,
    *,
    mode: Mode = "linear",
    eps: float = 1e-6,
    bbox_format: BoxFormat = "xyxy",
    power: float = 1.0,
    inner_ratio: float | None = None,
    focal_gamma: float = 0.0,
    pairwise: bool = False,
) -> Tensor:
    """f(IoU) plus the distance of the centres, unreduced: see `DIoULoss`; arguments as in `iou_loss`."""
    pair = box_pair(pred, target, eps, bbox_format, inner_ratio)
    return with_penalties(pair, mode, [centre_distance(pair)], power, focal_gamma)


@definition(layout="last", prepare=prepare_boxes)
def ciou_loss(
    pred: Tensor,
    target: Tensor,
    *,
    mode: Mode = "linear",
    eps: float = 1e-6,
    bbox_format: BoxFormat = "xyxy",
    power: float = 1.0,
    inner_ratio: float | None = None,
    focal_gamma: float = 0.0,
    pairwise: bool = False,
) -> Tensor:
    """f(IoU) plus distance and aspect ratio, unreduced: see `CIoULoss`; arguments as in `iou_loss`."""
    pair = box_pair(pred, target, eps, bbox_format, inner_ratio)
    return with_penalties(pair, mode, [centre_distance(pair), aspect_ratio(pair)], power, focal_gamma)


@definition(layout="last", prepare=prepare_boxes)
def eiou_loss(
    pred: Tensor,
    target: Tensor,
    *,
    mode: Mode = "linear",
    eps: float = 1e-6,
    bbox_format: BoxFormat = "xyxy",
    power: float = 1.0,
    inner_ratio: float | None = None,
    focal_gamma: float = 0.0,
    pairwise: bool = False,
) -> Tensor:
    """f(IoU) plus distance and side differences, unreduced: see `EIoULoss`; arguments as in `iou_loss`."""
    pair = box_pair(pred, target, eps, bbox_format, inner_ratio)
    return with_penalties(pair, mode, [centre_distance(pair), *side_difference(pair).unbind(-1)], power, focal_gamma)


@definition(layout="last", prepare=prepare_boxes)
def siou_loss(
    pred: Tensor,
    target: Tensor,
    *,
    mode: Mode = "linear",
    eps: float = 1e-6,
    bbox_format: BoxFormat = "xyxy",
    theta: float = 4.0,
    power: float = 1.0,
    inner_ratio: float | None = None,
    focal_gamma: float = 0.0,
    pairwise: bool = False,
) -> Tensor:
    """f(IoU) plus angle-aware distance and shape, unreduced: see `SIoULoss`.

    Args:
        pred: boxes (…,4).
        target: boxes of the shape of ``pred``.
        mode: as in `iou_loss`.
        eps: as in `iou_loss`.
        bbox_format: as in `iou_loss`.
        theta: exponent of the shape term ≥ 1.
        power: as in `iou_loss`.
        inner_ratio: as in `iou_loss`.
        focal_gamma: as in `iou_loss`.
        pairwise: as in `iou_loss`.

    Returns:
        (…); (…,Q,M) with ``pairwise``.
    """
    pair = box_pair(pred, target, eps, bbox_format, inner_ratio)
    return with_penalties(pair, mode, [angle_distance(pair) + side_ratio(pair, theta)], power, focal_gamma)
