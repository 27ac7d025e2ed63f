"""Kernel of probabilistic knowledge transfer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from losses_core.kernels import kernel
from losses_distill._kernels._pairwise import unit_backward
from losses_distill._pairwise import lengths
from losses_distill.relation_loss.pkt import pkt_loss


def _all_samples(pred: Tensor, target: Tensor, *, anchors: Tensor | None, **_: Any) -> bool:
    return anchors is None


@kernel(pkt_loss, supports=_all_samples)
def pkt(x: Tensor, target: Tensor, *, eps: float, needs_grad: bool, **_: Any) -> tuple[Tensor, Tensor | None]:
    """Compute both matrices of probabilities side by side, and the gradient from the student's."""
    length = lengths(x)
    x, target = x / length, target / lengths(target)
    # twice the kernel of the definition, as the factor cancels
    similarities = torch.stack((x @ x.T, target @ target.T)).add_(1).clamp_(min=0)
    total = similarities.sum(2, keepdim=True)
    p, q = similarities.div_(total).unbind()
    shifted = p + eps
    value = (q + eps).div_(shifted).log_().mul_(q)
    if not needs_grad:
        return value, None
    ratio = q.div(shifted)  # minus the derivative with respect to p
    grad = torch.sub((ratio * p).sum(1, keepdim=True), ratio).div_(total[0])
    return value, unit_backward((grad + grad.T) @ x, x, length)
