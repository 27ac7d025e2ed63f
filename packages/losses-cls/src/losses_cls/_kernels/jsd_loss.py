"""Kernel of cross-entropy with the Jensen-Shannon divergence between splits."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_cls._kernels.cross_entropy import cross_entropy_of_labels
from losses_cls.jsd_loss import jsd_cross_entropy_loss
from losses_core.kernels import kernel


def _bound(*, num_splits: int, alpha: float, **_: object) -> float:
    """Largest gradient: p r is in [-1/e, log K], and its mean over p too."""
    return 1 + alpha / num_splits * (1 + math.log(num_splits))


@kernel(jsd_cross_entropy_loss, bound=_bound, temporaries=6, large_blocks=True)
def jsd_cross_entropy_kernel(
    x: Tensor,
    target: Tensor,
    *,
    num_splits: int,
    alpha: float,
    smoothing: float,
    ignore_index: int | None,
    needs_grad: bool,
) -> tuple[Tensor, Tensor | None]:
    """Sum over a sample of the loss, and its gradient α/K p (r - Σ p r) with r = log p - log M."""
    value, of_clean = cross_entropy_of_labels(
        x[:, 0],
        target,
        class_weight=None,
        ignore_index=ignore_index,
        label_smoothing=smoothing,
        needs_grad=needs_grad,
    )
    limits, grad = torch.finfo(x.dtype), None
    log_p = F.log_softmax(x, 2)
    p = log_p.exp()
    # where M underflows, so does each p, which multiplies the logarithm
    ratio = log_p.clamp_(min=limits.min).sub_(p.mean(1, keepdim=True).clamp_(min=limits.tiny).log_())
    divergence = (p * ratio).sum(2, keepdim=True)
    value.add_(divergence.sum((1, 2)), alpha=alpha / num_splits)
    if of_clean is not None:
        grad = ratio.sub_(divergence).mul_(p).mul_(alpha / num_splits)
        grad.select(1, 0).add_(of_clean)
    if ignore_index is not None:
        ignored = target == ignore_index
        value.masked_fill_(ignored, 0)
        if grad is not None:
            grad.masked_fill_(ignored.unsqueeze(1).unsqueeze(1), 0)
    return value.flatten(1).sum(1) if value.ndim > 1 else value, grad
