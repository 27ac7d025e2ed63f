"""The geometry of a pair of boxes, and the terms of the IoU losses, as definitions."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from losses_core.utils.boxes import BoxFormat

Mode = Literal["iou", "linear", "log", "square"]
MODES: tuple[Mode, ...] = get_args(Mode)

MAX_GRAD = 1e4
"""Bound of the derivative of a ratio by a coordinate. Without it two boxes of height 0 give 1/eps, which fp16 cannot
hold; ordinary boxes stay far below it."""


class BoxPair(NamedTuple):
    """A prediction and a target per row. Pairs of numbers, x and y, are (…,2); everything else is (…).

    Attributes:
        pred, target: width and height of the boxes, at least 0: an inverted box is empty.
        shift: centre of the target minus centre of the prediction.
        hull: width and height of the smallest box around both.
        inter, union, hull_area: areas.
        iou: intersection over union.
        eps: lower bound of every denominator.
    """

    pred: Tensor
    target: Tensor
    shift: Tensor
    hull: Tensor
    inter: Tensor
    union: Tensor
    hull_area: Tensor
    iou: Tensor
    eps: float


def box_pair(pred: Tensor, target: Tensor, eps: float, bbox_format: BoxFormat) -> BoxPair:
    """Measure boxes (…,4)."""
    (low, high), (target_low, target_high) = _corners(pred, bbox_format), _corners(target, bbox_format)
    size, target_size = (high - low).clamp(min=0), (target_high - target_low).clamp(min=0)
    hull = (torch.maximum(high, target_high) - torch.minimum(low, target_low)).clamp(min=0)
    inter = _area((torch.minimum(high, target_high) - torch.maximum(low, target_low)).clamp(min=0))
    union = _area(target_size) + _area(size) - inter
    shift = ((target_low - low) + (target_high - high)) * 0.5
    iou = _bounded_ratio(inter, union, torch.maximum(size, target_size), eps)
    return BoxPair(size, target_size, shift, hull, inter, union, _area(hull), iou, eps)


def _corners(boxes: Tensor, bbox_format: BoxFormat) -> tuple[Tensor, Tensor]:
    """The corners, left top and right bottom, (…,2) each."""
    first, second = boxes.split(2, -1)
    if bbox_format == "xyxy":
        return first, second
    if bbox_format == "ltwh":
        return first, first + second
    return first - second / 2, first + second / 2


def _area(size: Tensor) -> Tensor:
    width, height = size.unbind(-1)
    return width * height


def _bounded_ratio(numerator: Tensor, denominator: Tensor, derivative: Tensor, eps: float) -> Tensor:
    """``numerator / max(denominator, eps)``, with a derivative by a coordinate of at most `MAX_GRAD`.

    ``derivative`` (…,2) is that of the numerator: sides for an area, 2 d for d².
    """
    denominator = denominator.clamp(min=eps)
    bounded = numerator / torch.maximum(denominator, derivative.detach().abs().amax(-1) / MAX_GRAD)
    return bounded + (numerator / denominator - bounded).detach()


def overlap_loss(pair: BoxPair, mode: Mode) -> Tensor:
    """The function of the IoU that a mode stands for."""
    if mode == "log":
        return -pair.iou.clamp(min=pair.eps).log()
    return 1 - (pair.iou.square() if mode == "square" else pair.iou)


def empty_hull(pair: BoxPair) -> Tensor:
    """(E - union) / E: the share of the hull that belongs to neither box (GIoU)."""
    return _bounded_ratio(pair.hull_area - pair.union, pair.hull_area, pair.hull, pair.eps)


def centre_distance(pair: BoxPair) -> Tensor:
    """d²/c²: squared distance of the centres over the squared diagonal of the hull (DIoU, CIoU, EIoU)."""
    return _bounded_ratio(pair.shift.square().sum(-1), pair.hull.square().sum(-1), 2 * pair.shift, pair.eps)


def aspect_ratio(pair: BoxPair) -> Tensor:
    """α v with v = 4/π² (difference of the diagonals' angles)², and α = v / (1 - IoU + v) a constant (CIoU)."""
    # the angle changes by 1/length: without a bound the derivative at a box of size 0 is infinite
    length = pair.pred.detach().square().sum(-1, keepdim=True)
    damping = (length / pair.eps).clamp(max=1)
    damped = pair.pred.detach() + damping * (pair.pred - pair.pred.detach())
    width, height = torch.where(damping < 1, damped, pair.pred).unbind(-1)
    height = height.masked_fill(length.squeeze(-1) == 0, 1)
    turn = torch.atan2(width, height) - torch.atan2(*pair.target.unbind(-1))
    v = 4 / math.pi**2 * turn.square()
    alpha = (v / ((1 - pair.iou) + v).clamp(min=pair.eps)).detach()
    return alpha * v


def side_difference(pair: BoxPair) -> Tensor:
    """(w-w')²/ew² + (h-h')²/eh²: the difference of each side over that of the hull (EIoU)."""
    return ((pair.pred - pair.target).square() / pair.hull.square().clamp(min=pair.eps)).sum(-1)


def angle_distance(pair: BoxPair) -> Tensor:
    """½ Σ 1 - exp(-(2-A) ρ²), with ρ the shift over the side of the hull and A = sin 2α of its direction (SIoU)."""
    angle = 2 * _area(pair.shift).abs() / pair.shift.square().sum(-1).clamp(min=pair.eps)
    relative = pair.shift / pair.hull.clamp(min=pair.eps)
    return -0.5 * torch.expm1((angle - 2).unsqueeze(-1) * relative.square()).sum(-1)


def side_ratio(pair: BoxPair, theta: float) -> Tensor:
    """½ Σ (1 - exp(-ω))^θ, with ω = |difference of a side| over the longer one (SIoU)."""
    omega = (pair.pred - pair.target).abs() / torch.maximum(pair.pred, pair.target).clamp(min=pair.eps)
    return 0.5 * (-torch.expm1(-omega)).pow(theta).sum(-1)
