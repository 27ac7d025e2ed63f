"""Kernel of the distillation of independent logits."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core.kernels import kernel
from losses_distill.binary_kd import binary_kd_loss


def _bound(*, temperature: Any) -> float | None:
    """Largest magnitude of T (p - q)."""
    return None if isinstance(temperature, Tensor) else temperature


@kernel(binary_kd_loss, bound=_bound, temporaries=10)
def binary_kd(x: Tensor, target: Tensor, *, temperature: Any, needs_grad: bool) -> tuple[Tensor, Tensor | None]:
    """Compute the divergence with both signs turned, which changes nothing, so that the teacher's logit is negative.

    Then p and q are small, and computed themselves; 1 - p and 1 - q are not needed.
    """
    sign = torch.copysign(torch.ones((), dtype=x.dtype, device=x.device), target)
    lowest = torch.finfo(x.dtype).min  # two logits of -inf are equal
    student = (x * sign).div_(-temperature).clamp_(min=lowest)
    teacher = (target * sign).div_(-temperature).clamp_(min=lowest)
    value = F.logsigmoid(-teacher).sub_(F.logsigmoid(-student))
    p, q = torch.sigmoid(student), torch.sigmoid(teacher)
    value = value.addcmul_(teacher.sub_(student), q).clamp_(min=0).mul_(temperature * temperature)
    return value, p.sub_(q).mul_(sign).mul_(-temperature) if needs_grad else None
