"""The IoU family as pure functions: f(IoU) plus terms, with one backward for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor

from losses_core.errors import InputError
from losses_core.utils import checks, host, temporaries
from losses_core.utils.boxes import BOX_FORMATS, BoxFormat, in_corners
from losses_core.utils.precision import full_precision
from losses_det._geometry import Geometry, Slopes, corner_slopes, where_above
from losses_det._one_pass import Rows
from losses_det._penalties import (
    SideRatio,
    Term,
    angle_distance,
    aspect_ratio,
    centre_distance,
    empty_hull,
    side_difference,
)

Mode = Literal["iou", "linear", "log", "square"]
Terms: TypeAlias = tuple[Term, ...]
MODES: tuple[Mode, ...] = get_args(Mode)
KEPT = 1 << 16
"""Coordinates up to which the slope is computed with the value and kept: 256 KiB in float32."""
FEW = 1 << 10
"""Boxes up to which a view is as good as a copy."""
STEEPEST = 1e4
"""Bound of the slope: without it two boxes of height 0 give 1/eps, which fp16 cannot hold. Proper boxes stay below."""


class BoxLoss(NamedTuple):
    """f(IoU) + terms of boxes (…,4), symmetric in the two, as a `losses_det._one_pass.Loss`."""

    terms: Terms
    mode: Mode
    eps: float
    bbox_format: BoxFormat

    def evaluate(self, pred: Tensor, target: Tensor, *, with_slope: bool) -> tuple[Tensor, Tensor | None]:
        first, second = (in_corners(box, self.bbox_format) for box in _numbers_first(pred, target))
        g = Geometry(first, second, self.eps, hull=bool(self.terms))
        value, iou_slope = self._of_iou(g.iou)
        slopes_of = []
        for term in self.terms:
            more, slopes = term(g)
            value = value + more
            slopes_of.append(slopes)
        if not with_slope:
            return value, None
        total = sum((slopes() for slopes in slopes_of), Slopes())
        return value, self._to_box(corner_slopes(g, iou_slope(), total))

    def slope(self, pred: Tensor, target: Tensor) -> Tensor:
        _, slope = self.evaluate(pred, target, with_slope=True)
        return slope  # type: ignore[return-value]

    def _of_iou(self, iou: Tensor) -> tuple[Tensor, Callable[[], Tensor | None]]:
        """f, and a function that gives its derivative, None for the constant -1."""
        if self.mode == "log":
            inverse = iou.clamp(min=self.eps).reciprocal()
            return inverse.log(), lambda: where_above(self.eps, iou, -inverse)
        if self.mode == "square":
            return 1 - iou.square(), lambda: -2 * iou
        return 1 - iou, lambda: None

    def _to_box(self, corner: Tensor) -> Tensor:
        """From slopes in the corners, (2,2,…), to slopes in the four numbers of a box, (…,4)."""
        if self.bbox_format != "xyxy":
            low, high = corner.unbind(0)
            corner = torch.stack((low + high, high if self.bbox_format == "ltwh" else (high - low) / 2))
        return temporaries.clamp(corner, -STEEPEST, STEEPEST).flatten(0, 1).movedim(0, -1)


def _numbers_first(*boxes: Tensor) -> list[Tensor]:
    """The four numbers of boxes (…,4) in pairs, (2,2,…), each a run of memory where there are many."""
    if boxes[0].ndim == 2 and boxes[0].shape[0] <= FEW and host.on_host(*boxes) and not torch.is_grad_enabled():
        return [box.t().unflatten(0, (2, 2)) for box in boxes]
    stacked = torch.stack([coordinate for box in boxes for coordinate in box.unbind(-1)])
    return list(stacked.view(len(boxes), 2, 2, *boxes[0].shape[:-1]).unbind(0))


IOU: Terms = ()
GIOU: Terms = (empty_hull,)
DIOU: Terms = (centre_distance,)
CIOU: Terms = (centre_distance, aspect_ratio)
EIOU: Terms = (centre_distance, side_difference)


def siou_terms(theta: float) -> Terms:
    return angle_distance, SideRatio(theta)


def box_loss(pred: Tensor, target: Tensor, terms: Terms, mode: Mode, eps: float, bbox_format: BoxFormat) -> Rows:
    """f(IoU) + terms of each pair of boxes; a further loss of the family is a further tuple of terms."""
    for name, known, given in (("mode", MODES, mode), ("bbox_format", BOX_FORMATS, bbox_format)):
        if given not in known:
            raise InputError(f"{name}: expected one of {', '.join(map(repr, known))}; got {given!r}.")
    checks.tensor("target", target)
    if pred.ndim == 0 or pred.shape[-1] != 4:
        raise InputError(f"expected pred with boxes of shape (…, 4); got {tuple(pred.shape)}.")
    if pred.shape != target.shape:
        raise InputError(
            f"expected target of the shape of pred {tuple(pred.shape)}; got {tuple(target.shape)}. "
            "Boxes are compared row by row: match them first, for example with compute_iou(..., pairwise=True)."
        )
    loss = BoxLoss(terms, mode, eps, bbox_format)
    return Rows(loss, pred, target.to(pred.dtype), keep=pred.numel() <= KEPT, rows=host.BLOCK // 8)


@full_precision
def iou_loss(
    pred: Tensor, target: Tensor, *, mode: Mode = "log", eps: float = 1e-6, bbox_format: BoxFormat = "xyxy"
) -> Tensor:
    """f(IoU) of each pair of boxes, unreduced: see `IoULoss`.

    Args:
        pred: boxes (…,4).
        target: boxes of the shape of ``pred``.
        mode: ``log`` -ln IoU, ``linear`` = ``iou`` 1 - IoU, ``square`` 1 - IoU².
        eps: lower bound of every denominator, and of the IoU in ``log``.
        bbox_format: ``xyxy``, ``xywh`` = ``cxcywh``, or ``ltwh``.

    Returns:
        (…)
    """
    return box_loss(pred, target, IOU, mode, eps, bbox_format).elements()


@full_precision
def giou_loss(
    pred: Tensor, target: Tensor, *, mode: Mode = "linear", eps: float = 1e-6, bbox_format: BoxFormat = "xyxy"
) -> Tensor:
    """f(IoU) plus the empty share of the hull, unreduced: see `GIoULoss`; arguments as in `iou_loss`."""
    return box_loss(pred, target, GIOU, mode, eps, bbox_format).elements()


@full_precision
def diou_loss(
    pred: Tensor, target: Tensor, *, mode: Mode = "linear", eps: float = 1e-6, bbox_format: BoxFormat = "xyxy"
) -> Tensor:
    """f(IoU) plus the distance of the centres, unreduced: see `DIoULoss`; arguments as in `iou_loss`."""
    return box_loss(pred, target, DIOU, mode, eps, bbox_format).elements()


@full_precision
def ciou_loss(
    pred: Tensor, target: Tensor, *, mode: Mode = "linear", eps: float = 1e-6, bbox_format: BoxFormat = "xyxy"
) -> Tensor:
    """f(IoU) plus distance and aspect ratio, unreduced: see `CIoULoss`; arguments as in `iou_loss`."""
    return box_loss(pred, target, CIOU, mode, eps, bbox_format).elements()


@full_precision
def eiou_loss(
    pred: Tensor, target: Tensor, *, mode: Mode = "linear", eps: float = 1e-6, bbox_format: BoxFormat = "xyxy"
) -> Tensor:
    """f(IoU) plus distance and side differences, unreduced: see `EIoULoss`; arguments as in `iou_loss`."""
    return box_loss(pred, target, EIOU, mode, eps, bbox_format).elements()


@full_precision
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
    return box_loss(pred, target, siou_terms(theta), mode, eps, bbox_format).elements()
