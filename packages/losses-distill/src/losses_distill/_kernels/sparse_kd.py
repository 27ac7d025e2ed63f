"""Kernel of distillation from the most probable classes."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core.kernels import kernel
from losses_distill._kernels.kd import mask_ignored
from losses_distill.sparse_kd import cross_divergence, sparse_kd_loss, student_log_probabilities


def _bound(*, temperature: float, **_: Any) -> float:
    """Largest magnitude of T (Σp S - p); Σp may exceed 1 by rounding."""
    return 2 * temperature


@kernel(sparse_kd_loss, bound=_bound, temporaries=5, large_blocks=True)
def sparse_kd(
    x: Tensor, target: tuple[Tensor, Tensor], *, temperature: float, **options: Any
) -> tuple[Tensor, Tensor | None]:
    """Compute one softmax, over the classes that are not listed; all else is of the size of the list."""
    ids, log_q = target
    if temperature != 1:
        x = x / temperature
    listed = x.gather(1, ids)
    others = x.scatter(1, ids, torch.finfo(x.dtype).min)
    largest = others.amax(1, keepdim=True)
    grad = F.softmax(others, 1)
    log_s = student_log_probabilities(listed, largest.sub_(grad.amax(1, keepdim=True).log_()), log_q)
    value, q = cross_divergence(log_q, log_s)
    # the derivative with respect to the K+1 logits; that of the last is divided among the others by their softmax
    by_logit = log_s.exp_().mul_(q.sum(1, keepdim=True)).sub_(q).mul_(temperature)
    by_listed, by_rest = by_logit[:, :-1], by_logit[:, -1:]
    absent, most_probable = log_q[:, :-1] == -torch.inf, log_q[:, :-1].argmax(1, keepdim=True)
    by_listed = torch.where(absent, by_listed.gather(1, most_probable), by_listed)  # padding has the id of that
    grad = grad.mul_(by_rest).scatter_(1, ids, by_listed)
    return mask_ignored(value.mul_(temperature * temperature), grad, **options)
