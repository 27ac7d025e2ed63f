"""Kernels of the coordinate losses."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core.kernels import kernel
from losses_det.smooth_l1 import balanced_l1_loss, l1_loss, smooth_l1_loss


def _has_one_target_each(pred: Tensor, target: Tensor, *, pairwise: bool = False) -> bool:
    return not pairwise


@kernel(l1_loss, bound=1.0, supports=_has_one_target_each, temporaries=5)
def l1_kernel(x: Tensor, target: Tensor, *, needs_grad: bool) -> tuple[Tensor, Tensor | None]:
    """|difference|, and its sign."""
    difference = x - target
    grad = torch.sign(difference) if needs_grad else None
    return difference.abs_(), grad


@kernel(smooth_l1_loss, bound=1.0, temporaries=5)
def smooth_l1_kernel(x: Tensor, target: Tensor, *, beta: float, needs_grad: bool) -> tuple[Tensor, Tensor | None]:
    """The gradient is the difference over β, in [-1,1]."""
    value = F.smooth_l1_loss(x, target, reduction="none", beta=beta)
    if not needs_grad:
        return value, None
    difference = x - target
    if beta == 0:
        return value, difference.sign_()
    return value, (difference if beta == 1 else difference.div_(beta)).clamp_(-1, 1)


@kernel(balanced_l1_loss, temporaries=8)
def balanced_l1_kernel(
    x: Tensor, target: Tensor, *, alpha: float, gamma: float, beta: float, needs_grad: bool
) -> tuple[Tensor, Tensor | None]:
    """The gradient is α ln(1 + b m/β), which the value needs as well."""
    b = math.expm1(gamma / alpha)
    difference = x - target
    distance = difference.abs()
    near = distance.clamp(max=beta)
    growth = torch.log1p(near * (b / beta))
    value = torch.sub(growth, near, alpha=b / beta).mul_(alpha * beta / b).addcmul_(near, growth, value=alpha)
    value.add_(distance.sub_(near), alpha=gamma)
    return value, growth.mul_(difference.sign_()).mul_(alpha) if needs_grad else None
