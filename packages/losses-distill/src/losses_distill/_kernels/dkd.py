"""Kernel of decoupled knowledge distillation."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core.kernels import kernel
from losses_distill.kd_loss.dkd import dkd_loss


def _bound(*, temperature: float, alpha: float, beta: float, **_: Any) -> float | None:
    """Largest magnitude of T (β (p - q) - α (p_t - q_t) p)."""
    return temperature * (alpha + beta) or None


def _supports(pred: Tensor, target: Tensor, *, temperature: Any, **_: Any) -> bool:
    return not isinstance(temperature, Tensor)


@kernel(dkd_loss, bound=_bound, supports=_supports, temporaries=8)
def dkd(
    x: Tensor,
    target: Tensor,
    *,
    labels: Tensor,
    temperature: float,
    alpha: float,
    beta: float,
    ignore_index: int | None,
    needs_grad: bool,
    **_: Any,
) -> tuple[Tensor, Tensor | None]:
    """Compute both divergences and their gradient from one softmax over the other classes of each."""
    index = labels.unsqueeze(1)
    ignored = None if ignore_index is None else index == ignore_index
    if ignored is not None:
        index = index.masked_fill(ignored, 0)
    log_p, odds_p, _largest = _decouple(x / temperature, index)
    log_q, odds_q, largest = _decouple(target / temperature, index)
    alone = largest == _lowest(x)
    p, q = log_p.exp(), log_q.exp()
    difference = p - q
    # nansum: two logits of -inf give NaN, and contribute 0; any other NaN is in the whole row of difference
    nckd = log_q.sub_(log_p).mul_(q).nansum(1, keepdim=True).add_(difference.sum(1, keepdim=True))
    odds = torch.stack((odds_p, odds_q))
    logs = F.logsigmoid(torch.stack((odds, -odds)))
    pair, ratio = logs.exp(), logs[:, 1] - logs[:, 0]
    true = pair[0, 0] - pair[0, 1]
    tckd = ratio.mul_(pair[:, 1]).nansum(0).add_(true, alpha=0)  # to which a NaN of the odds spreads
    value = nckd.masked_fill_(alone, 0).mul_(beta).add_(tckd, alpha=alpha).clamp_(min=0).mul_(temperature * temperature)
    grad = None
    if needs_grad:
        true = true.mul_(alpha * temperature)
        # where the teacher masks all other classes nckd is 0, so that β (p - q), which is β p, is subtracted again
        factor = torch.add(true, alone, alpha=beta * temperature)
        grad = difference.mul_(beta * temperature).addcmul_(p, factor, value=-1).scatter_(1, index, true)
    if ignored is not None:
        value.masked_fill_(ignored, 0)
        grad = None if grad is None else grad.masked_fill_(ignored, 0)
    return value.squeeze(1), grad


def _lowest(x: Tensor) -> float:
    return torch.finfo(x.dtype).min


def _decouple(logits: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As the function of this name beside the definition, with ``logits`` overwritten; last the largest other logit."""
    true = logits.gather(1, index)
    others = logits.scatter_(1, index, _lowest(logits))
    log_rest, largest = F.log_softmax(others, 1), others.amax(1, keepdim=True)
    return log_rest, true.sub_(largest).add_(log_rest.amax(1, keepdim=True)), largest
