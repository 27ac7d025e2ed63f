"""Kernels of quality focal and distribution focal loss."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from losses_core.kernels import kernel
from losses_det._kernels._scores import Scores
from losses_det.gfocal_loss import distribution_focal_loss, neighbours, quality_focal_loss


@kernel(quality_focal_loss, temporaries=9)
def quality_focal_kernel(
    x: Tensor, target: Tensor | tuple[Tensor, Tensor], *, beta: float, use_sigmoid: bool, needs_grad: bool
) -> tuple[Tensor, Tensor | None]:
    """All classes are negatives but one per row, so with labels only one element of a row needs its score."""
    if isinstance(target, Tensor):
        scores = Scores(x, target, use_sigmoid=use_sigmoid)
        value = scores.focus(beta).mul_(scores.entropy).sum(-1)
        return value, scores.focused_grad(beta) if needs_grad else None
    label, score = target
    index = label.clamp(0, x.shape[-1] - 1).unsqueeze(-1)
    score = score.unsqueeze(-1).masked_fill(index != label.unsqueeze(-1), 0)
    background = Scores(x, None, use_sigmoid=use_sigmoid)
    positive = Scores(x.gather(-1, index), score, use_sigmoid=use_sigmoid)
    value = background.focus(beta).mul_(background.entropy)
    value.scatter_(-1, index, positive.focus(beta).mul_(positive.entropy))
    if not needs_grad:
        return value.sum(-1), None
    return value.sum(-1), background.focused_grad(beta).scatter_(-1, index, positive.focused_grad(beta))


@kernel(distribution_focal_loss, bound=1.0, temporaries=3)
def distribution_focal_kernel(
    x: Tensor, target: Tensor, *, reg_max: int, needs_grad: bool
) -> tuple[Tensor, Tensor | None]:
    """Cross-entropy against the two bins around the target."""
    return two_bin_entropy(x, *neighbours(target, reg_max), needs_grad=needs_grad)


def two_bin_entropy(x: Tensor, index: Tensor, share: Tensor, *, needs_grad: bool) -> tuple[Tensor, Tensor | None]:
    """Cross-entropy against the shares (n,2) of two bins; the gradient is the softmax minus these shares."""
    log_p = F.log_softmax(x, -1)
    value = log_p.gather(-1, index).mul_(share).sum(-1).neg_()
    return value, log_p.exp_().scatter_add_(-1, index, share.neg_()) if needs_grad else None
