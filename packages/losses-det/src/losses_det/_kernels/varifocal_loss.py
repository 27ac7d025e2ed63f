"""Kernel of the varifocal loss."""

from __future__ import annotations

import torch
from torch import Tensor

from losses_core.kernels import kernel
from losses_det._kernels._scores import Scores
from losses_det.varifocal_loss import varifocal_loss


@kernel(varifocal_loss, temporaries=10)
def varifocal_kernel(
    x: Tensor,
    target: Tensor,
    *,
    alpha: float,
    gamma: float,
    use_sigmoid: bool,
    iou_weighted: bool,
    detach_weight: bool,
    needs_grad: bool,
) -> tuple[Tensor, Tensor | None]:
    """A positive has the weight q (or 1), a negative α |p - q|^γ."""
    scores, positive = Scores(x, target, use_sigmoid=use_sigmoid), target > 0
    weight = target if iou_weighted else positive.to(x.dtype)
    value = torch.where(positive, weight, scores.focus(gamma).mul_(alpha)).mul_(scores.entropy)
    if not needs_grad:
        return value, None
    focused = scores.focus(gamma).mul_(scores.entropy_grad()) if detach_weight else scores.focused_grad(gamma)
    return value, torch.where(positive, weight * scores.entropy_grad(), focused.mul_(alpha))
