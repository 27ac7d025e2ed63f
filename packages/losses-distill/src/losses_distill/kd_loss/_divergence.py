"""The Kullback-Leibler divergence, and the standardization of logits, in differentiable operations."""

from __future__ import annotations

import torch
from torch import Tensor


def kl_divergence(log_q: Tensor, log_p: Tensor, dim: int, *, corrected: bool = True) -> Tensor:
    """KL(q ‖ p) of log-probabilities along ``dim``, never negative; a class of probability 0 in q contributes 0.

    Args:
        log_q: logarithms of probabilities.
        log_p: of the same shape.
        dim: axis of the classes.
        corrected: make the term of a class q log(q/p) - q + p ≥ 0. The sum is the same, as q and p both sum to 1, and
            rounding errors of a log_softmax cancel to first order; between nearly equal distributions the plain sum
            consists of them. Logarithms that are precise near 0, as of a logsigmoid, do not need it.
    """
    q, p = log_q.exp(), log_p.exp()
    terms = q * torch.where(q == 0, 0, log_q - log_p)
    value = (terms + (p - q)).sum(dim) if corrected else terms.sum(dim)
    return value - value.detach().clamp(max=0)


def standardize(x: Tensor, dim: int = 1) -> tuple[Tensor, Tensor]:
    """(x - mean)/std along ``dim``, and the std; logits of -inf stay -inf and are not counted.

    Where the spread is no more than rounding, the result is 0 and the std is inf.
    """
    finite = x != -torch.inf
    n = finite.sum(dim, keepdim=True).clamp(min=1)
    mean = torch.where(finite, x, 0).sum(dim, keepdim=True) / n
    centered = torch.where(finite, x - mean, 0)
    variance = (centered * centered).sum(dim, keepdim=True) / n
    rounding = 8 * torch.finfo(x.dtype).eps * mean.abs()
    flat = variance <= rounding * rounding
    std = torch.where(flat, 1, variance).sqrt().masked_fill(flat, torch.inf)
    return torch.where(finite, centered / std, -torch.inf), std
