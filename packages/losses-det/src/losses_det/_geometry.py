"""The geometry of a pair of boxes, and the terms of the IoU losses, as definitions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from losses_core.errors import InputError
from losses_core.utils.boxes import BoxFormat
from losses_core.utils.stable import power

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
        overlap: the same of the inner boxes, where there are any.
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
    overlap: Tensor
    eps: float


def every_pair(pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Views (…,Q,1,D) and (…,1,M,D) of (…,Q,D) and (…,M,D), whose rows broadcast to all pairs."""
    if (
        pred.ndim < 2
        or pred.ndim != target.ndim
        or pred.shape[:-2] != target.shape[:-2]
        or pred.shape[-1] != target.shape[-1]
    ):
        raise InputError(
            "expected pred (…, Q, D) and target (…, M, D) with pairwise=True, equal in all axes but Q and M; "
            f"got {tuple(pred.shape)} and {tuple(target.shape)}."
        )
    # coordinates first in memory: what is computed of them has the targets last, contiguous
    pred, target = (rows.movedim(-1, 0).contiguous().movedim(0, -1) for rows in (pred, target))
    return pred.unsqueeze(-2), target.unsqueeze(-3)


Corners = tuple[Tensor, Tensor]
"""Left top and right bottom corner, (…,2) each."""


def box_pair(
    pred: Tensor, target: Tensor, eps: float, bbox_format: BoxFormat, inner_ratio: float | None = None
) -> BoxPair:
    """Measure boxes (…,4); ``inner_ratio``: the factor of the inner boxes, which have the same centres."""
    both = box_corners(pred, bbox_format), box_corners(target, bbox_format)
    pair = _measure(*both, eps)
    if inner_ratio is None:
        return pair
    first, second = (scaled(corners, inner_ratio) for corners in both)
    return pair._replace(overlap=_measure(first, second, eps).iou)


def scaled(corners: Any, factor: float) -> Any:
    """Corners of boxes scaled about their centres."""
    low, high = corners
    near, far = (1 + factor) / 2, (1 - factor) / 2
    return near * low + far * high, far * low + near * high


def _measure(pred: Corners, target: Corners, eps: float) -> BoxPair:
    (low, high), (target_low, target_high) = pred, target
    size, target_size = _at_least_zero(high - low), _at_least_zero(target_high - target_low)
    hull = _at_least_zero(torch.maximum(high, target_high) - torch.minimum(low, target_low))
    inter = _area(_at_least_zero(torch.minimum(high, target_high) - torch.maximum(low, target_low)))
    union = _area(target_size) + _area(size) - inter
    shift = ((target_low - low) + (target_high - high)) * 0.5
    iou = _bounded_ratio(inter, union, torch.maximum(size, target_size), eps)
    return BoxPair(size, target_size, shift, hull, inter, union, _area(hull), iou, iou, eps)


def box_corners(boxes: Tensor, bbox_format: BoxFormat) -> Corners:
    """The corners of boxes (…,4)."""
    first, second = boxes.split(2, -1)
    if bbox_format == "xyxy":
        return first, second
    if bbox_format == "ltwh":
        return first, first + second
    return first - second / 2, first + second / 2


def _at_least_zero(x: Tensor) -> Tensor:
    """max(x, 0) with the derivative 1 at 0; that of `clamp` is 1 or 0, depending on the version of torch."""
    return x.masked_fill(x < 0, 0)


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


def overlap_loss(pair: BoxPair, mode: Mode, exponent: float = 1.0) -> Tensor:
    """The function of the IoU that a mode stands for."""
    if mode == "log":
        return -pair.overlap.clamp(min=pair.eps).log()
    return 1 - power(pair.overlap, 2 if mode == "square" else exponent)


LARGEST_PENALTY = 2.0
"""Bound of a penalty that is raised to a power: only that of an inverted box exceeds it."""


def with_penalties(
    pair: BoxPair, mode: Mode, penalties: Sequence[Tensor], exponent: float, focal_gamma: float
) -> Tensor:
    """f(IoU) plus penalties, each raised to a power, times the focusing factor."""
    value = overlap_loss(pair, mode, exponent)
    for penalty in penalties:
        value = value + (penalty if exponent == 1 else power(penalty.clamp(max=LARGEST_PENALTY), exponent))
    return value if focal_gamma == 0 else value * focal_factor(pair.iou.detach(), focal_gamma)


def focal_factor(iou: Tensor, gamma: float) -> Tensor:
    """IoU^γ, exactly 0 for disjoint boxes."""
    return power(iou, gamma).masked_fill(iou <= 0, 0)


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
    """(w-w')²/ew² and (h-h')²/eh², (…,2): the difference of each side over that of the hull (EIoU)."""
    return (pair.pred - pair.target).square() / pair.hull.square().clamp(min=pair.eps)


def angle_distance(pair: BoxPair) -> Tensor:
    """½ Σ 1 - exp(-(2-A) ρ²), with ρ the shift over the side of the hull and A = sin 2α of its direction (SIoU)."""
    angle = 2 * _area(pair.shift).abs() / pair.shift.square().sum(-1).clamp(min=pair.eps)
    relative = pair.shift / pair.hull.clamp(min=pair.eps)
    return -0.5 * torch.expm1((angle - 2).unsqueeze(-1) * relative.square()).sum(-1)


def side_ratio(pair: BoxPair, theta: float) -> Tensor:
    """½ Σ (1 - exp(-ω))^θ, with ω = |difference of a side| over the longer one (SIoU)."""
    omega = (pair.pred - pair.target).abs() / torch.maximum(pair.pred, pair.target).clamp(min=pair.eps)
    return 0.5 * (-torch.expm1(-omega)).pow(theta).sum(-1)


def root(x: Tensor) -> Tensor:
    """√x, with a derivative of 0 where x ≤ 0."""
    zero = x <= 0
    return x.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)


def wasserstein(pair: BoxPair) -> Tensor:
    """Distance of the Gaussians with half the sides as standard deviations (NWD)."""
    return root(pair.shift.square().sum(-1) + (pair.pred - pair.target).square().sum(-1) / 4)


FARTHEST = 1.001
"""Bound of d²/c²: 1 but for rounding, unless a box is inverted."""


def relative_distance(pair: BoxPair) -> Tensor:
    """d²/c² with c² a constant in the gradient (WIoU)."""
    diagonal = pair.hull.detach().square().sum(-1).clamp(min=pair.eps)
    return (pair.shift.square().sum(-1) / diagonal).clamp(max=FARTHEST)


def wise_focus(miss: Tensor, mean: Tensor | float, alpha: float, delta: float, eps: float) -> Tensor:
    """β / (δ α^(β-δ)) with β = (1 - IoU) / mean (WIoU v3)."""
    outlier = miss / (mean.clamp(min=eps) if isinstance(mean, Tensor) else mean)
    return outlier / delta * torch.exp((delta - outlier) * math.log(alpha))
