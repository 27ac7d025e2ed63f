"""Kernels of relational distillation."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core._blocks import block_size, ranges
from losses_core.kernels import kernel
from losses_core.utils.torch_compat import sym_max
from losses_distill._kernels._pairwise import distances_backward, unit_backward
from losses_distill._pairwise import lengths
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
    centered, target = x - x.mean(0), target - target.mean(0)
    products = torch.stack([centered @ centered.T, target @ target.T])
    square = products.diagonal(dim1=1, dim2=2).clone()
    sums = square.unsqueeze(1) + square.unsqueeze(2)
    distances = products.mul_(-2).add_(sums)
    zero = distances <= sums.mul_(8 * torch.finfo(x.dtype).eps).clamp_(min=eps)
    distances = distances.masked_fill_(zero, 0)
    if not squared:
        distances = distances.sqrt_()
    n = x.shape[0]
    pairs = sym_max(n * (n - 1), 1)
    mean = distances.sum((1, 2), keepdim=True).div_(pairs)
    mean = mean.masked_fill_(mean == 0, 1)
    student, teacher = distances.div_(mean).unbind()
    value = F.smooth_l1_loss(student, teacher, reduction="none")
    if not needs_grad:
        return value, None
    grad = (student - teacher).clamp_(-1, 1)
    grad = grad.sub_((grad * student).sum().div_(pairs))  # the mean depends on all distances
    grad = grad.div_(mean[0] if squared else student * (2 * mean[0].square()))
    grad = distances_backward(grad.masked_fill_(zero[0], 0), centered)
    return value, grad if length is None else unit_backward(grad, x, length)


class _Distances(NamedTuple):
    """Squared distances of student and teacher: of the vertices (2,n,N), and of all pairs (2,N,N)."""

    near: Tensor
    far: Tensor
    inverse: Tensor
    """1/distance of the vertices, 0 where the distance is 0."""
    scale: Tensor
    """The same times the square root of 1/2."""

    def cosines(self, start: int, stop: int) -> Tensor:
        """(2,vertices,N,N), as in the definition."""
        near, scale = self.near[:, start:stop], self.scale[:, start:stop]
        sums = near.unsqueeze(3) + near.unsqueeze(2)
        return sums.sub_(self.far.unsqueeze(1)).mul_(scale.unsqueeze(3)).mul_(scale.unsqueeze(2))


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
    centered = x - x.mean(0)
    both = _distances(centered, target - target.mean(0), eps, anchors)
    _, vertices, n = both.near.shape
    values, grad_near = [], []
    grad_far = torch.zeros_like(both.far[0])
    for chunk in ranges(vertices, chunk_size or max(1, block_size(x, large=True) // max(2 * n * n, 1))):
        cosines = both.cosines(*chunk)
        # by index, as a compiler refuses a write into what unbind gave
        difference = cosines[0] - cosines[1]
        grad = difference.clamp(-1, 1)
        values.append(difference.add_(grad, alpha=-0.5).mul_(grad).sum((1, 2)))
        if needs_grad:
            inverse = both.inverse[0, slice(*chunk)]
            projection = cosines[0].mul_(grad).sum(2).mul_(inverse).mul_(inverse)
            grad = grad.mul_(inverse.unsqueeze(2)).mul_(inverse.unsqueeze(1))
            # each pair (i,k) comes twice, so the derivatives of its two sides are one sum
            grad_near.append(grad.sum(2).sub_(projection))
            grad_far = grad_far.sub_(grad.sum(0), alpha=0.5)
    value = _joined(values, x.new_zeros(0))
    if not needs_grad:
        return value, None
    near = _joined(grad_near, x.new_zeros(0, n))
    grad_far = grad_far.add_(near) if anchors is None else grad_far.index_add_(0, anchors, near)
    grad = distances_backward(grad_far + grad_far.T, centered, scale=0.5)
    return value, grad if length is None else unit_backward(grad, x, length)


def _joined(parts: list[Tensor], otherwise: Tensor) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts) if parts else otherwise


def _distances(student: Tensor, teacher: Tensor, eps: float, anchors: Tensor | None) -> _Distances:
    """As `losses_distill._pairwise.squared_distances` in wide numbers, of centred rows of both networks at once."""
    wide = [x if x.device.type == "mps" else x.double() for x in (student, teacher)]
    products = torch.stack([x @ x.T for x in wide])
    # the diagonal, which compilers before torch 2.13 take of no number of rows that was gathered
    index = torch.arange(student.shape[0], device=student.device).reshape(1, -1, 1).expand(2, -1, 1)
    square = products.gather(2, index).squeeze(2)
    sums = square.unsqueeze(1) + square.unsqueeze(2)
    distances = products.mul_(-2).add_(sums)
    zero = distances <= sums.mul_(8 * torch.finfo(sums.dtype).eps).clamp_(min=eps)
    far = distances.masked_fill_(zero, 0).to(student.dtype)
    near = far if anchors is None else far.index_select(1, anchors)
    inverse = near.masked_fill(near == 0, torch.inf).rsqrt_()
    return _Distances(near, far, inverse, inverse * math.sqrt(0.5))
