"""Kernel of similarity-preserving distillation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from losses_core.kernels import kernel
from losses_distill._kernels._pairwise import unit_backward
from losses_distill.relation_loss.sp import sp_loss


def _all_samples(pred: Tensor, target: Tensor, *, anchors: Tensor | None, **_: Any) -> bool:
    return anchors is None


@kernel(sp_loss, supports=_all_samples)
def sp(x: Tensor, target: Tensor, *, eps: float, needs_grad: bool, **_: Any) -> tuple[Tensor, Tensor | None]:
    """Compute both matrices side by side, and the gradient from the student's, which is symmetric before scaling."""
    similarities = torch.stack((x @ x.T, target @ target.T))
    length = torch.linalg.vector_norm(similarities, dim=2, keepdim=True)
    length = length.masked_fill_(length <= eps, torch.inf)
    student, teacher = similarities.div_(length).unbind()
    difference = student - teacher
    value = difference * difference
    if not needs_grad:
        return value, None
    grad = unit_backward(difference.mul_(2), student, length[0])
    return value, (grad + grad.T) @ x
