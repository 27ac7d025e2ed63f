"""Kernel of the generalized Jensen-Shannon divergence."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core.kernels import kernel
from losses_distill._kernels.kd import kd, mask_ignored
from losses_distill.jsd_loss import find_terms, generalized_jsd_loss

_DIRECTIONS = {0.0: "forward", 1.0: "reverse"}


def _bound(
    *, beta: float, temperature: float | Tensor, skew: float | None, temperature_squared: bool, **_: Any
) -> float | None:
    """An upper bound of the gradient's magnitude; KL(S ‖ P) has none."""
    if isinstance(temperature, Tensor) or (beta == 1 and skew is None):
        return None
    # S |log S/M - KL(S ‖ M)| grows with the logarithm of the student's share in M
    largest = 2.0 if beta < 1 or skew is None else 2 / skew
    return largest * (temperature if temperature_squared else 1 / temperature)


@kernel(generalized_jsd_loss, bound=_bound, temporaries=10)
def generalized_jsd(
    x: Tensor,
    target: Tensor,
    *,
    beta: float,
    temperature: Any,
    skew: float | None,
    temperature_squared: bool,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """Compute the divergences from the mixture, and their gradient with respect to the student's logits."""
    terms = find_terms(beta, skew)
    square = temperature * temperature
    if terms.share in _DIRECTIONS:
        direction = _DIRECTIONS[terms.share]
        value, grad = kd(x, target, temperature=temperature, kl_direction=direction, logit_standardize=False, **options)
        if temperature_squared:
            return value, grad
        return value.div_(square), grad if grad is None else grad.div_(square)
    log_s, log_p = F.log_softmax(x / temperature, 1), F.log_softmax(target / temperature, 1)
    s, p = log_s.exp(), log_p.exp()
    # what is smaller than the smallest normal number contributes nothing, but would make a NaN of -inf - (-inf)
    limits = torch.finfo(s.dtype)
    log_m = torch.lerp(s, p, terms.share).clamp_(min=limits.tiny).log_()
    # -inf times a probability of 0 would be NaN
    ratio_s, ratio_p = (log.sub_(log_m).clamp_(min=limits.min) for log in (log_s, log_p))
    # by_log_s: the derivative with respect to log S, up to a multiple of S, which the softmax cancels
    if skew is None:
        by_log_s = ratio_s.mul_(s).mul_(terms.student)
        by_student = by_log_s.sum(1, keepdim=True)
        value = ratio_p.mul_(p).sum(1).mul_(terms.teacher).add_(by_student.squeeze(1))
    else:
        q, ratio = (p, ratio_p) if beta == 0 else (s, ratio_s)
        by_log_s = ratio.exp().mul_(s).mul_(-terms.rest)
        divergence = ratio.mul_(q)
        value = divergence.sum(1).add_((s - p).sum(1), alpha=terms.rest if beta == 0 else -terms.share)
        if beta == 1:
            by_log_s.add_(divergence)
        by_student = by_log_s.sum(1, keepdim=True)
    grad = by_log_s.addcmul_(s, by_student, value=-1).mul_(temperature if temperature_squared else 1 / temperature)
    value = value.clamp_(min=0)
    return mask_ignored(value.mul_(square) if temperature_squared else value, grad, **options)
