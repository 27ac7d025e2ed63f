"""Kernels of the losses of fine-grained distributions."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from losses_core.kernels import kernel
from losses_det._kernels.gfocal_loss import two_bin_entropy
from losses_det.fine_grained.distillation import divergence_of_sides
from losses_det.fine_grained.localization import fine_grained_localization_loss, two_bins


@kernel(fine_grained_localization_loss, bound=1.0, temporaries=3)
def fine_grained_kernel(
    x: Tensor, target: Tensor, *, reg_max: int, up: float, reg_scale: float, needs_grad: bool
) -> tuple[Tensor, Tensor | None]:
    """Cross-entropy against the two bins around the distance."""
    return two_bin_entropy(x, *two_bins(target, reg_max, up, reg_scale), needs_grad=needs_grad)


@kernel(divergence_of_sides, temporaries=6)
def divergence_kernel(
    x: Tensor, target: Tensor, *, share: Tensor, quality: Tensor | None, temperature: float, needs_grad: bool
) -> tuple[Tensor, Tensor | None]:
    """The gradient is T (softmax(s/T) - softmax(t/T)), times share and quality."""
    factor = share if quality is None else share * quality
    log_p, log_q = F.log_softmax(x / temperature, -1), F.log_softmax(target / temperature, -1)
    q = log_q.exp()
    value = log_q.sub_(log_p).mul_(q).sum(-1).mul_(temperature * temperature).mul_(factor)
    if not needs_grad:
        return value, None
    return value, log_p.exp_().sub_(q).mul_(temperature).mul_(factor.unsqueeze(-1))
