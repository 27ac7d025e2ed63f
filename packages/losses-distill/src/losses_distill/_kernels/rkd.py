"""Kernels of relational distillation."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core._blocks import block_size, ranges
from losses_core.kernels import kernel
from losses_distill._kernels._pairwise import distances_backward, unit_backward
from losses_distill._pairwise import lengths, squared_distances
from losses_distill._relation import select
from losses_distill.relation_loss.rkd import rkd_angle_loss, rkd_distance_loss

_Result = tuple[Tensor, Tensor | None]


def _all_samples(pred: Tensor, target: Tensor, *, anchors: Tensor | None, **_: Any) -> bool:
    return anchors is None


@kernel(rkd_distance_loss, supports=_all_samples)
def rkd_distance(
    x: Tensor, target: Tensor, *, eps: float, squared: bool, l2_normalize: bool, needs_grad: bool, **_: Any
) -> _Result:
    """Compute both matrices of distances side by side, and the gradient from the student's."""
    length = None
    if l2_normalize:
        length = lengths(x)
        x, target = x / length, target / lengths(target)
    products = torch.stack([centered @ centered.T for centered in (x - x.mean(0), target - target.mean(0))])
    square = products.diagonal(dim1=1, dim2=2).clone()
    sums = square.unsqueeze(1) + square.unsqueeze(2)
    distances = products.mul_(-2).add_(sums)
    zero = distances <= sums.mul_(8 * torch.finfo(x.dtype).eps).clamp_(min=eps)
    distances = distances.masked_fill_(zero, 0)
    if not squared:
        distances = distances.sqrt_()
    n = x.shape[0]
    pairs = torch.sym_max(n * (n - 1), 1)
    mean = distances.sum((1, 2), keepdim=True).div_(pairs)
    mean = mean.masked_fill_(mean == 0, 1)
    student, teacher = distances.div_(mean).unbind()
    value = F.smooth_l1_loss(student, teacher, reduction="none")
    if not needs_grad:
        return value, None
    grad = (student - teacher).clamp_(-1, 1)
    grad = grad.sub_((grad * student).sum().div_(pairs))  # the mean depends on all distances
    grad = grad.div_(mean[0] if squared else student * (2 * mean[0].square()))
    grad = distances_backward(grad.masked_fill_(zero[0], 0), x)
    return value, grad if length is None else unit_backward(grad, x, length)


class _Distances(NamedTuple):
    """Squared distances of one network: of the vertices (n,N), and of all pairs (N,N)."""

    near: Tensor
    far: Tensor
    inverse: Tensor
    """1/distance of the vertices, 0 where the distance is 0."""

    def cosines(self, start: int, stop: int) -> Tensor:
        """(vertices,N,N), as in the definition."""
        near, scale = self.near[start:stop], self.inverse[start:stop] * math.sqrt(0.5)
        sums = near.unsqueeze(2) + near.unsqueeze(1)
        return sums.sub_(self.far).mul_(scale.unsqueeze(2)).mul_(scale.unsqueeze(1))


@kernel(rkd_angle_loss)
def rkd_angle(
    x: Tensor,
    target: Tensor,
    *,
    eps: float,
    l2_normalize: bool,
    chunk_size: int | None,
    anchors: Tensor | None,
    needs_grad: bool,
) -> _Result:
    """Compute the angles of some vertices at a time, and the gradient with respect to the squared distances."""
    length = None
    if l2_normalize:
        length = lengths(x)
        x, target = x / length, target / lengths(target)
    ours, theirs = _distances(x, eps, anchors), _distances(target, eps, anchors)
    vertices, n = ours.near.shape
    values, grad_near = [], []
    grad_far = torch.zeros_like(ours.far)
    for chunk in ranges(vertices, chunk_size or max(1, block_size(x, large=True) // max(n * n, 1))):
        cosines = ours.cosines(*chunk)
        difference = cosines - theirs.cosines(*chunk)
        grad = difference.clamp(-1, 1)
        values.append(difference.add_(grad, alpha=-0.5).mul_(grad).sum((1, 2)))
        if needs_grad:
            inverse = ours.inverse[slice(*chunk)]
            projection = cosines.mul_(grad).sum(2).mul_(inverse).mul_(inverse)
            grad = grad.mul_(inverse.unsqueeze(2)).mul_(inverse.unsqueeze(1))
            # each pair (i,k) comes twice, so the derivatives of its two sides are one sum
            grad_near.append(grad.sum(2).sub_(projection))
            grad_far = grad_far.sub_(grad.sum(0), alpha=0.5)
    value = torch.cat(values) if values else x.new_zeros(0)
    if not needs_grad:
        return value, None
    near = torch.cat(grad_near) if values else x.new_zeros(0, n)
    grad_far = grad_far.add_(near) if anchors is None else grad_far.index_add_(0, anchors, near)
    grad = distances_backward((grad_far + grad_far.T).mul_(0.5), x)
    return value, grad if length is None else unit_backward(grad, x, length)


def _distances(x: Tensor, eps: float, anchors: Tensor | None) -> _Distances:
    far = squared_distances(x, eps, wide=True)
    near = select(far, anchors)
    return _Distances(near, far, near.masked_fill(near == 0, torch.inf).rsqrt_())
