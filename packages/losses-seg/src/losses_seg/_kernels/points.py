"""Kernel of the point loss: what is read at the points, and the gradient added to the pixels around them."""

from __future__ import annotations

import torch
from torch import Tensor

from losses_core.kernels import kernel
from losses_core.utils.precision import upcast
from losses_core.utils.stable import logistic_loss
from losses_seg._points import corners, read_points, read_truth, sample, sample_grad
from losses_seg._region import positive
from losses_seg.point_loss import point_mask_loss


@kernel(point_mask_loss, temporaries=12)
def point_mask(
    pred: Tensor,
    target: Tensor,
    *,
    bce_weight: float,
    dice_weight: float,
    smooth: float,
    ignore_index: int | None,
    point_coords: Tensor,
    needs_grad: bool,
) -> tuple[Tensor, Tensor | None]:
    """Of each mask; the gradient in the logit of a point is BCE's σ - y over K, and that of Dice times σ (1 - σ)."""
    maps = upcast(pred)
    if ignore_index is None:
        x, y = sample(maps, point_coords), sample(target.to(maps.dtype), point_coords)
        valid = None
    else:
        x = read_points(maps, point_coords)
        y, valid = read_truth(target, point_coords, ignore_index, x.dtype)
    keep = x.new_ones(()) if valid is None else valid.to(x.dtype)
    x = x if valid is None else x.masked_fill_(~valid, 0)  # 0 · NaN is NaN
    count = keep.expand_as(x).sum(1).clamp(min=1)
    p = torch.sigmoid(x)
    bce = logistic_loss(x, y).mul_(keep).sum(1).div_(count)
    difference = (p - y).mul_(keep) if needs_grad else None
    curve = p * (1 - p) if needs_grad else None  # before p is masked
    p, y = p.mul_(keep), y.mul_(keep)
    total = p.sum(1) + y.sum(1)
    above, below = total.sub((p * y).sum(1), alpha=2), positive(total, smooth)
    value = bce_weight * bce + dice_weight * above / below
    if difference is None or curve is None:
        return value, None
    below = below.unsqueeze(1)
    dice = ((1 - 2 * y) - (above.unsqueeze(1) / below)).div_(below).mul_(curve).mul_(keep * dice_weight)
    at_points = difference.mul_(bce_weight / count.unsqueeze(1)).add_(dice)
    if valid is None:
        return value, sample_grad(maps, point_coords, at_points)
    grad = torch.zeros_like(pred, dtype=x.dtype, memory_format=torch.contiguous_format).flatten(1)
    for index, weight in corners(pred.shape, point_coords.to(x.dtype)):
        grad = grad.scatter_add_(1, index, (at_points * weight))
    return value, grad.view(pred.shape)
