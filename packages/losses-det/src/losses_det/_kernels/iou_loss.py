"""Kernels of the IoU losses: each term of `losses_det._geometry` with its derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from losses_core.kernels import kernel
from losses_core.utils.boxes import BoxFormat
from losses_core.utils.stable import power
from losses_det._geometry import Mode
from losses_det._kernels._boxes import (
    Boxes,
    Grads,
    bounded_inverse,
    corner_grads,
    square_sum,
    to_format,
    where_above,
)
from losses_det.iou_loss import ciou_loss, diou_loss, eiou_loss, giou_loss, iou_loss, siou_loss

Term = Callable[..., tuple[Tensor, Grads]]
"""A term of a loss: its value, (n,), and its derivatives, none where no gradient is needed."""


def _overlap(boxes: Boxes, mode: Mode) -> tuple[Tensor, Tensor | None]:
    """The function of the IoU and its derivative, None for the constant -1."""
    if mode == "log":
        inverse = boxes.iou.clamp(min=boxes.eps).reciprocal_()
        return inverse.log(), where_above(boxes.eps, boxes.iou, inverse.neg())
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
    value = difference.mul_(relative).sum(0)
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


def _evaluate(
    x: Tensor,
    target: Tensor,
    *,
    terms: tuple[Term, ...],
    mode: Mode,
    eps: float,
    bbox_format: BoxFormat,
    needs_grad: bool,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """f(IoU) + terms of each pair of boxes, with the gradient; ``options`` belong to the last term."""
    boxes = Boxes(x, target, eps, bbox_format, hull=bool(terms))
    value, by_iou = _overlap(boxes, mode)
    total = Grads()
    for index, term in enumerate(terms):
        more, grads = term(boxes, needs_grad, **(options if index == len(terms) - 1 else {}))
        value, total = value.add_(more), total + grads
        del grads
    if not needs_grad:
        return value, None
    return value, to_format(corner_grads(boxes, by_iou, total), bbox_format)


for _loss, _terms in {
    iou_loss: (),
    giou_loss: (_empty_hull,),
    diou_loss: (_centre_distance,),
    ciou_loss: (_centre_distance, _aspect_ratio),
    eiou_loss: (_centre_distance, _side_difference),
    siou_loss: (_angle_distance, _side_ratio),
}.items():
    kernel(_loss)(partial(_evaluate, terms=_terms))
