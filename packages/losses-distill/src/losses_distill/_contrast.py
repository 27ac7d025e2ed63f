"""The arithmetic of contrastive distillation: scores against many stored keys, of which nothing is kept.

The loss of an anchor depends on the anchor alone, as stored keys carry no gradient. Its derivative is therefore one
vector per anchor, found together with the value: neither the (N,K) scores nor the keys are kept for the backward, and
the keys may be overwritten right after the forward.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from losses_core.distributed import all_reduce_sum, world_size
from losses_core.errors import InputError
from losses_core.utils.autograd import Function
from losses_core.utils.weight_reduce import Group


class _FirstOrder(Function):
    """Identity on a derivative that was kept as a constant: where its own derivative is asked for, an error."""

    @staticmethod
    def forward(derivative: Tensor, x: Tensor) -> Tensor:
        return derivative.view_as(derivative)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None]:
        raise InputError(
            "has no second derivative against its queue or memory bank, as no copy of them is kept; mode='batch' has.",
            where="CRDLoss",
        )


class _PerAnchor(Function):
    """A function of each anchor (row of x) whose derivative was found with its value."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(inputs[0], output[-1])
        ctx.others = len(inputs) - 1

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, derivative = ctx.saved_tensors
        if torch.is_grad_enabled():
            derivative = _FirstOrder.apply(derivative, x)
        return derivative * grad.unsqueeze(1), *(None,) * ctx.others


def queue_scores(x: Tensor, keys: Tensor, bias: Tensor, same: Tensor | None, temperature: float) -> Tensor:
    """logsumexp over stored keys of x·key/τ, for each anchor (N,); -inf where there is no key.

    Args:
        x: anchors (N,D), of length 1.
        keys: (Q,D).
        bias: (Q,), 0 or -inf for each key.
        same: (N,Q), true where a key shows the anchor's own image.
        temperature: τ.
    """
    function = _QueueScores.apply if x.requires_grad else _queue_scores
    value: Tensor = function(x, keys, bias, same, temperature)[0]
    return value


def _queue_scores(
    x: Tensor, keys: Tensor, bias: Tensor, same: Tensor | None, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Value, exponentials and their sums."""
    scores = torch.addmm(bias, x, keys.T, alpha=1 / temperature)
    if same is not None:
        scores = scores.masked_fill(same, -torch.inf)
    top = scores.amax(1, keepdim=True)
    top = torch.where(top == -torch.inf, 0, top)
    weight = scores.sub_(top).exp_()
    total = weight.sum(1, keepdim=True)
    return (total.log() + top).squeeze(1), weight, total


def queue_scores_with_derivative(
    x: Tensor, keys: Tensor, bias: Tensor, same: Tensor | None, temperature: float
) -> tuple[Tensor, Tensor]:
    """`queue_scores`, and its derivative with respect to each anchor (N,D)."""
    value, weight, total = _queue_scores(x, keys, bias, same, temperature)
    return value, (weight @ keys) / (torch.where(total == 0, 1, total) * temperature)


class _QueueScores(_PerAnchor):
    forward = staticmethod(queue_scores_with_derivative)


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
) -> tuple[Tensor, Tensor]:
    """The noise-contrastive loss of each anchor against entries of a bank (N,), and log Z of this batch.

    With P_k = exp(x·m_k/τ)/Z and c = K/M: -log(P_0/(P_0+c+ε)) - Σ_k log(c/(P_k+c+ε)), in log space.

    Args:
        x: anchors (N,D), of length 1.
        bank: (M,D).
        positive: (N,) indices.
        negative: (K,) indices for all, or (N,K).
        own: true where a negative is the positive: it is left out.
        log_z: 0-d; where it is not finite it is not known yet, and this batch's is used.
        temperature: τ.
        eps: ε.
        group: ranks whose anchors make up the batch, for log Z; None: this process alone.
    """
    function = _NoiseContrast.apply if x.requires_grad else _noise_contrast
    value, batch_log_z, *_ = function(x, bank, positive, negative, own, log_z, temperature, eps, group)
    return value, batch_log_z


def _noise_contrast(
    x: Tensor,
    bank: Tensor,
    positive: Tensor,
    negative: Tensor,
    own: Tensor | None,
    log_z: Tensor,
    temperature: float,
    eps: float,
    group: Group | None,
) -> tuple[Tensor, Tensor, _Keys, Tensor, Tensor, Tensor]:
    """Value, log Z of the batch; then keys and scores for the derivative."""
    share = negative.shape[-1] / bank.shape[0]
    log_c = math.log(share + eps)
    keys, positives = _Keys(bank, negative), bank.index_select(0, positive)
    score = (x * positives).sum(1, keepdim=True) / temperature
    scores = keys.scores(x).div_(temperature)
    batch_log_z = _log_mean_exp(score, scores, group) + math.log(bank.shape[0])
    log_z = torch.where(log_z.isfinite(), log_z, batch_log_z)
    # -log(P/(P+c')) is softplus(log c' - log P), and log((P+c')/c) is softplus(log P - log c') + log(c'/c)
    score, scores = score - log_z - log_c, scores.sub_(log_z + log_c)
    if own is not None:
        scores = scores.masked_fill_(own, -torch.inf)
    value = F.softplus(-score) + F.softplus(scores).sum(1, keepdim=True)
    value = value + negative.shape[-1] * (log_c - math.log(share))
    return value.squeeze(1), batch_log_z, keys, positives, score, scores


def noise_contrast_with_derivative(
    x: Tensor,
    bank: Tensor,
    positive: Tensor,
    negative: Tensor,
    own: Tensor | None,
    log_z: Tensor,
    temperature: float,
    eps: float,
    group: Group | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """`noise_contrast`, and its derivative with respect to each anchor (N,D)."""
    value, batch_log_z, keys, positives, score, scores = _noise_contrast(
        x, bank, positive, negative, own, log_z, temperature, eps, group
    )
    derivative = keys.pull(scores.sigmoid_()) - torch.sigmoid(-score) * positives
    return value, batch_log_z, derivative / temperature


class _NoiseContrast(_PerAnchor):
    forward = staticmethod(noise_contrast_with_derivative)


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


class _Keys:
    """The negatives of a batch in a bank: (K,) indices shared by all anchors, or (N,K)."""

    def __init__(self, bank: Tensor, negative: Tensor) -> None:
        self.bank, self.negative = bank, negative
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

    def pull(self, slope: Tensor) -> Tensor:
        """(N,D): Σ_k slope_k m_k."""
        if self.whole:
            every = slope.new_zeros(slope.shape[0], self.rows.shape[0])
            return every.scatter_add(1, self.negative, slope) @ self.rows
        return slope @ self.rows if self.rows.ndim == 2 else (slope.unsqueeze(1) @ self.rows).squeeze(1)


def in_batch(
    student: Tensor, teacher: Tensor, same: Tensor | None, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Score of each pair, and the logsumexp of the scores of each student and of each teacher against all others.

    ``same`` (N,N) is true off the diagonal where two samples show one image: they are no negatives of each other.
    """
    scores = student @ teacher.T / temperature
    pair = scores.diagonal()
    if same is not None:
        scores = scores.masked_fill(same, -torch.inf)
    if temperature < 0.04:
        # logsumexp looks at the number of rows, which a compiler does not know where they were gathered
        of_student, of_teacher = (pair - scores.log_softmax(axis).diagonal() for axis in (1, 0))
        return pair, of_student, of_teacher
    # scores lie within ±1/τ: one exponential serves both directions, and none can overflow or vanish
    weight = (scores - 1 / temperature).exp()
    return pair, weight.sum(1).log() + 1 / temperature, weight.sum(0).log() + 1 / temperature
