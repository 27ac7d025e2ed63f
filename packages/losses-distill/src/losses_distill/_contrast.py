"""Contrastive losses against stored keys, in differentiable operations."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from losses_core.distributed import all_reduce_sum, world_size
from losses_core.utils.weight_reduce import Group


def contrast_pairs(
    student: Tensor,
    teacher: Tensor,
    same: Tensor | None,
    temperature: float,
    stored: tuple[Tensor, Tensor] | None = None,
    anchors: Tensor | None = None,
) -> Tensor:
    """InfoNCE of each pair within a batch, from student to teachers and from teacher to students, summed.

    Args:
        student: (N,D), of length 1.
        teacher: (N,D), of length 1.
        same: (N,N), true off the diagonal where two samples show one image: they are no negatives of each other.
        temperature: τ.
        stored: further negatives: the logsumexp of their scores for each student and for each teacher among the
            anchors, (n,).
        anchors: (n,) indices of the pairs whose loss is returned; None: all.

    Returns:
        (n,)
    """
    scores = (student / temperature) @ teacher.T
    if same is not None:
        scores = scores.masked_fill(same, -torch.inf)
    log_p = []
    for index, rows in enumerate((scores, scores.T)):
        pairs = rows if anchors is None else rows.index_select(0, anchors)
        if stored is not None:  # all stored keys are one more column
            pairs = torch.cat([pairs, stored[index].unsqueeze(1)], 1)
        pairs = F.log_softmax(pairs, 1)
        log_p.append(pairs.diagonal() if anchors is None else pairs.gather(1, anchors.unsqueeze(1)).squeeze(1))
    return -(log_p[0] + log_p[1])


def key_scores(x: Tensor, keys: Tensor, bias: Tensor, same: Tensor | None, temperature: float) -> Tensor:
    """(N,Q): x·key/τ + bias of each anchor and stored key, and the lowest number where ``same`` is true.

    Args:
        x: anchors (N,D), of length 1.
        keys: (Q,D).
        bias: (Q,), 0 for a key, or the lowest number for none.
        same: (N,Q), true where a key shows the anchor's own image.
        temperature: τ.
    """
    scores = torch.addmm(bias, x, keys.T, alpha=1 / temperature)
    return scores if same is None else scores.masked_fill(same, torch.finfo(scores.dtype).min)


class NoiseContrast(NamedTuple):
    """The noise-contrastive loss of each anchor, and what its gradient follows from."""

    value: Tensor
    """(N,)"""
    log_z: Tensor
    """0-d, that of this batch."""
    keys: BankKeys
    positives: Tensor
    """(N,D)"""
    positive_logit: Tensor
    """(N,1): log P_0 - log(c + ε)."""
    negative_logits: Tensor
    """(N,K): log P_k - log(c + ε)."""


def noise_contrast(
    x: Tensor,
    bank: Tensor,
    positive: Tensor,
    negative: Tensor,
    own: Tensor | None,
    log_z: Tensor,
    temperature: float,
    eps: float,
    group: Group | None = None,
) -> NoiseContrast:
    """The noise-contrastive loss of each anchor against entries of a bank.

    With P_k = exp(x·m_k/τ)/Z and c = K/M: -log(P_0/(P_0+c+ε)) - Σ_k log(c/(P_k+c+ε)), in log space.

    Args:
        x: anchors (N,D), of length 1.
        bank: (M,D).
        positive: (N,) indices.
        negative: (K,) indices for all, or (N,K).
        own: true where a negative is the positive: it is excluded.
        log_z: 0-d; where it is not finite it is not known yet, and this batch's is used.
        temperature: τ.
        eps: ε.
        group: ranks whose anchors make up the batch, for log Z; None: this process alone.
    """
    share = negative.shape[-1] / bank.shape[0]
    log_c = math.log(share + eps)
    keys, positives = BankKeys(bank, negative), bank.index_select(0, positive)
    score = (x * positives).sum(1, keepdim=True) / temperature
    scores = keys.scores(x) / temperature
    batch_log_z = (_log_mean_exp(score, scores, group) + math.log(bank.shape[0])).detach()
    shift = torch.where(log_z.isfinite(), log_z, batch_log_z) + log_c
    score, scores = score - shift, scores - shift
    if own is not None:
        scores = scores.masked_fill(own, -torch.inf)
    # -log(P/(P+c')) is softplus(log c' - log P), and log((P+c')/c) is softplus(log P - log c') + log(c'/c)
    value = F.softplus(-score) + F.softplus(scores).sum(1, keepdim=True)
    value = value + negative.shape[-1] * (log_c - math.log(share))
    return NoiseContrast(value.squeeze(1), batch_log_z, keys, positives, score, scores)


def _log_mean_exp(score: Tensor, scores: Tensor, group: Group | None) -> Tensor:
    """log of the mean exponential over both, on all ranks of the group."""
    total = torch.logaddexp(score.flatten().logsumexp(0), scores.flatten().logsumexp(0))
    count = torch.full_like(total, score.numel() + scores.numel())
    if group is None:
        return total - count.log()
    # a column for each rank: logarithms are summed as such, as exponentials could vanish
    own = torch.arange(world_size(group.handle), device=total.device) == dist.get_rank(group.handle)
    columns = all_reduce_sum(torch.where(own, torch.stack([total, count]).unsqueeze(1), 0), group.handle)
    totals, counts = columns.unbind()
    return totals.logsumexp(0) - counts.sum().log()


class BankKeys:
    """The negatives of a batch in a bank: (K,) indices shared by all anchors, or (N,K)."""

    def __init__(self, bank: Tensor, negative: Tensor) -> None:
        self.negative = negative
        # scores against the whole bank, where they take less memory than the (N,K,D) gathered rows
        self.whole = negative.ndim == 2 and bank.shape[0] <= negative.shape[1] * bank.shape[1]
        self.rows = bank if self.whole else bank.index_select(0, negative.flatten())
        if negative.ndim == 2 and not self.whole:
            self.rows = self.rows.unflatten(0, negative.shape)

    def scores(self, x: Tensor) -> Tensor:
        """(N,K): x·m of each anchor and its negatives."""
        if self.whole:
            return (x @ self.rows.T).gather(1, self.negative)
        return x @ self.rows.T if self.rows.ndim == 2 else (self.rows @ x.unsqueeze(2)).squeeze(2)

    def weighted_sum(self, weight: Tensor) -> Tensor:
        """(N,D): Σ_k weight_k m_k."""
        if self.whole:
            of_all = weight.new_zeros(weight.shape[0], self.rows.shape[0])
            return of_all.scatter_add_(1, self.negative, weight) @ self.rows
        return weight @ self.rows if self.rows.ndim == 2 else (weight.unsqueeze(1) @ self.rows).squeeze(1)
