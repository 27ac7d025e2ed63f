"""Kernels of the IoU losses: each term of `losses_det._geometry` with its derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from losses_core.kernels import kernel
from losses_core.utils.boxes import BoxFormat, in_corners
from losses_core.utils.stable import power
from losses_det._geometry import FARTHEST, LARGEST_PENALTY, Mode, focal_factor, scaled, wise_focus
from losses_det._kernels._boxes import (
    Boxes,
    Grads,
    bounded_inverse,
    corner_grads,
    square_sum,
    to_format,
    where_above,
)
from losses_det.iou_loss import ciou_loss, diou_loss, eiou_loss, giou_loss, iou_loss, nwd_loss, siou_loss, wiou_loss
from losses_det.iou_loss.mpdiou import iou_with_corners, squared_diagonal

Term = Callable[..., tuple[Tensor, Grads]]
"""A term of a loss: its value, (n,), and its derivatives, none where no gradient is needed."""


def _overlap(boxes: Boxes, mode: Mode, exponent: float) -> tuple[Tensor, Tensor | None]:
    """The function of the IoU and its derivative, None for the constant -1."""
    if exponent != 1:
        lower = power(boxes.iou, exponent - 1)
        return 1 - lower * boxes.iou, -exponent * lower
    if mode == "log":
        iou = boxes.iou.clamp(min=boxes.eps)  # the logarithm of its reciprocal would be rounded away from 0 near 1
        return iou.log().neg_(), where_above(boxes.eps, boxes.iou, iou.reciprocal_().neg_())
    if mode == "square":
        return 1 - boxes.iou.square(), -2 * boxes.iou
    return 1 - boxes.iou, None


def _empty_hull(b: Boxes, needs_grad: bool) -> tuple[Tensor, Grads]:
    empty = b.hull_area - b.union
    denominator = b.hull_area.clamp(min=b.eps)
    value = empty / denominator
    if not needs_grad:
        return value, Grads()
    inverse, denominator = bounded_inverse(denominator, b.hull)
    by_denominator = empty.mul_(inverse).mul_(inverse).masked_fill_(b.hull_area < denominator, 0)
    return value, Grads(union=-inverse, hull_area=inverse - by_denominator)


def _centre_distance(b: Boxes, needs_grad: bool) -> tuple[Tensor, Grads]:
    shift, diagonal = b.shift, square_sum(b.hull)
    denominator, squared = diagonal.clamp(min=b.eps), square_sum(shift)
    value = squared / denominator
    if not needs_grad:
        return value, Grads()
    inverse, denominator = bounded_inverse(denominator, shift.abs().mul_(2))
    twice = 2 * inverse
    by_diagonal = squared.mul_(inverse).mul_(-twice).masked_fill_(diagonal < denominator, 0)
    return value, Grads(hull=by_diagonal * b.hull, shift=shift.mul_(twice))


def _aspect_ratio(b: Boxes, needs_grad: bool) -> tuple[Tensor, Grads]:
    (width, height), target = b.pred.unbind(0), b.target.unbind(0)
    turn = torch.atan2(width, height) - torch.atan2(*target)
    v = 4 / math.pi**2 * turn.square()
    alpha = v / ((1 - b.iou) + v).clamp(min=b.eps)
    value = alpha * v
    if not needs_grad:
        return value, Grads()
    scale = turn.mul_(alpha).mul_(8 / math.pi**2).div_(square_sum(b.pred).clamp_(min=b.eps))
    return value, Grads(size=torch.stack((scale * height, -scale * width)))


def _side_difference(b: Boxes, needs_grad: bool) -> tuple[Tensor, Grads]:
    difference = b.pred - b.target
    hull_square = b.hull.square()
    relative = difference / hull_square.clamp(min=b.eps)
    value = difference.mul_(relative)
    if not needs_grad:
        return value, Grads()
    hull = where_above(b.eps, hull_square, -2 * relative.square()).mul_(b.hull)
    return value, Grads(size=relative.mul_(2), hull=hull)


def _angle_distance(b: Boxes, needs_grad: bool) -> tuple[Tensor, Grads]:
    shift, bound = b.shift, b.hull.clamp(min=b.eps)
    x, y = shift.unbind(0)
    d2 = square_sum(shift)
    direction = d2.clamp(min=b.eps).reciprocal_()
    angle = (x * y).abs_().mul_(2).mul_(direction)
    relative = shift / bound
    squared, stiff = relative.square(), angle - 2
    far = torch.expm1(stiff * squared)
    value = far.sum(0).div_(-2)
    if not needs_grad:
        return value, Grads()
    decay = far.add_(1)
    by_angle = squared.mul_(decay).sum(0).mul_(direction).div_(-2)
    by_shift = shift.flip(0).mul_(torch.sign(x * y)).mul_(2)
    by_shift.addcmul_(where_above(b.eps, d2, 2 * angle), shift, value=-1)
    along = decay.mul_(stiff).mul_(relative).div_(bound).neg_()
    by_hull = relative.mul_(along).neg_().masked_fill_(b.hull <= b.eps, 0)
    return value, Grads(hull=by_hull, shift=along.add_(by_shift.mul_(by_angle)))


def _side_ratio(b: Boxes, needs_grad: bool, theta: float) -> tuple[Tensor, Grads]:
    difference, longer = b.pred - b.target, torch.maximum(b.pred, b.target)
    inverse = longer.clamp(min=b.eps).reciprocal_()
    omega = difference.abs().mul_(inverse)
    base = torch.expm1(-omega).neg_()
    lower = power(base, theta - 1)
    value = (lower * base).sum(0).div_(2)
    if not needs_grad:
        return value, Grads()
    # a longer prediction also lengthens the denominator
    own = omega.masked_fill_((longer <= b.eps) | (difference <= 0), 0)
    size = torch.sign(difference).sub_(own).mul_(inverse).mul_(lower).mul_(theta / 2)
    return value, Grads(size=size.mul_(1 - base))


def _angle_and_sides(b: Boxes, needs_grad: bool, theta: float) -> tuple[Tensor, Grads]:
    distance, distance_grads = _angle_distance(b, needs_grad)
    shape, shape_grads = _side_ratio(b, needs_grad, theta)
    return distance.add_(shape), distance_grads.plus(shape_grads)


def _corner_distance(b: Boxes, needs_grad: bool, image_size: tuple[float, float] | Tensor) -> tuple[Tensor, Grads]:
    diagonal = squared_diagonal(image_size)
    value = b.offset.square().sum((0, 1)) / diagonal
    return value, Grads(corners=b.offset * (-2 / diagonal)) if needs_grad else Grads()


def _raised(value: Tensor, grads: Grads, exponent: float, needs_grad: bool) -> tuple[Tensor, Grads]:
    """A term and its derivatives, to a power."""
    if exponent == 1:
        return value, grads
    bounded = value.clamp(max=LARGEST_PENALTY)
    lower = power(bounded, exponent - 1)
    derivative = (exponent * lower).masked_fill_(value > LARGEST_PENALTY, 0)
    return bounded * lower, grads.times(derivative) if needs_grad else grads


def _evaluate(
    x: Tensor,
    target: Tensor,
    *,
    terms: tuple[Term, ...],
    mode: Mode,
    eps: float,
    bbox_format: BoxFormat,
    inner_ratio: float | None,
    needs_grad: bool,
    focal_gamma: float = 0.0,
    hull: bool = True,
    penalty_power: float | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """f(IoU) + terms of each pair of boxes, with the gradient; ``options`` belong to the last term."""
    exponent, corners = options.pop("power"), None
    if inner_ratio is not None:  # first, so that its quantities are not alive beside those of the boxes as they are
        inner = Boxes(x, target, eps, bbox_format, hull=False, ratio=inner_ratio)
        value, by_iou = _overlap(inner, mode, exponent)
        if needs_grad:
            corners = torch.stack(scaled(corner_grads(inner, by_iou, Grads()), inner_ratio))
        del inner
    boxes = Boxes(x, target, eps, bbox_format, hull=hull)
    if inner_ratio is None:
        value, by_iou = _overlap(boxes, mode, exponent)
    else:
        by_iou = torch.zeros_like(boxes.iou)
    total = Grads()
    for index, term in enumerate(terms):
        more, grads = term(boxes, needs_grad, **(options if index == len(terms) - 1 else {}))
        more, grads = _raised(more, grads, penalty_power or exponent, needs_grad)
        value, total = value.add_(more.sum(0) if more.ndim == 2 else more), total.plus(grads)
        del grads
    factor = focal_factor(boxes.iou, focal_gamma) if focal_gamma != 0 else None
    value = value if factor is None else value.mul_(factor)
    if not needs_grad:
        return value, None
    if corners is None:
        corners = corner_grads(boxes, by_iou, total)
    elif terms:
        corners.add_(corner_grads(boxes, by_iou, total))
    del boxes, by_iou, total
    grad = to_format(corners, bbox_format)
    return value, grad if factor is None else grad.mul_(factor.unsqueeze(-1))


_PENALTIES: dict[Any, tuple[Term, ...]] = {
    giou_loss: (_empty_hull,),
    diou_loss: (_centre_distance,),
    ciou_loss: (_centre_distance, _aspect_ratio),
    eiou_loss: (_centre_distance, _side_difference),
    siou_loss: (_angle_and_sides,),
}
_PENALTIES[iou_loss] = ()


def _has_one_target_each(pred: Tensor, target: Tensor, *, pairwise: bool = False, **_: Any) -> bool:
    return not pairwise


def _has_more_temporaries(
    pred: Tensor, target: Tensor, *, power: float, inner_ratio: float | None, pairwise: bool = False, **_: Any
) -> bool:
    return (power != 1 or inner_ratio is not None) and not pairwise


for _loss, _terms in _PENALTIES.items():
    _implementation = partial(_evaluate, terms=_terms, hull=bool(_terms))
    kernel(_loss, supports=_has_one_target_each)(_implementation)
    kernel(_loss, supports=_has_more_temporaries, temporaries=26)(_implementation)
kernel(iou_with_corners, temporaries=20)(partial(_evaluate, terms=(_corner_distance,), hull=False, penalty_power=1.0))


@kernel(wiou_loss, temporaries=20)
def wiou_kernel(
    x: Tensor,
    target: Tensor,
    *,
    mean: Tensor | float,
    version: int,
    alpha: float,
    delta: float,
    eps: float,
    bbox_format: BoxFormat,
    needs_grad: bool,
) -> tuple[Tensor, Tensor | None]:
    """Diagonal and focus are constants, so shift and IoU alone have a derivative."""
    b = Boxes(x, target, eps, bbox_format, hull=True)
    shift, miss = b.shift, 1 - b.iou
    inverse = square_sum(b.hull).clamp_(min=eps).reciprocal_()
    ratio = square_sum(shift).mul_(inverse)
    factor = ratio.clamp(max=FARTHEST).exp_()
    if version == 3:
        factor.mul_(wise_focus(miss, mean, alpha, delta, eps))
    value = miss.mul_(factor)
    if not needs_grad:
        return value, None
    by_shift = shift.mul_(inverse.mul_(2).mul_(value).masked_fill_(ratio > FARTHEST, 0))
    return value, to_format(corner_grads(b, factor.neg_(), Grads(shift=by_shift)), bbox_format)


@kernel(nwd_loss, bound=lambda *, constant, **_: 1 / constant, temporaries=12)
def nwd_kernel(
    x: Tensor, target: Tensor, *, constant: float, bbox_format: BoxFormat, needs_grad: bool
) -> tuple[Tensor, Tensor | None]:
    """Derivatives of the distance by shift and size, then by the corners."""
    (low, high), (target_low, target_high) = (
        in_corners(numbers.t().contiguous().view(2, 2, -1), bbox_format) for numbers in (x, target)
    )
    side = high - low
    difference = side.clamp(min=0).sub_((target_high - target_low).clamp_(min=0)).div_(2)
    shift = (target_low - low).add_(target_high).sub_(high).div_(2)
    distance = (square_sum(shift) + square_sum(difference)).sqrt_()
    exponent = distance / -constant
    value = torch.expm1(exponent).neg_()
    if not needs_grad:
        return value, None
    scale = exponent.exp_().div_(distance).div_(2 * constant).masked_fill_(distance == 0, 0)
    by_shift, by_size = shift.mul_(scale), difference.mul_(scale).masked_fill_(side < 0, 0)
    return value, to_format(torch.stack((-by_shift - by_size, by_size - by_shift)), bbox_format)
