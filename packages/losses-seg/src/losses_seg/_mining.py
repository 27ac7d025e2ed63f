"""Which elements are hard, and the losses of those, with one backward that keeps no more than the plain losses."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core.distributed import group_name
from losses_core.errors import InputError
from losses_core.utils import host
from losses_core.utils.autograd import Function
from losses_seg._ranks import Ranks
from losses_seg._targets import holds, safe_labels


@dataclasses.dataclass(frozen=True)
class Rule:
    """Keep losses above ``floor``, or else the hardest ``min_kept`` (an int: so many, a float: that part of them).

    ``ranks`` are the processes that hold the batch together.
    """

    floor: float
    min_kept: int | float
    ranks: Ranks | None


def rule(thresh: float | None, min_kept: int | float, ranks: Ranks | None) -> Rule:
    """The rule for a probability of the true class below ``thresh``; None: the hardest alone."""
    if thresh is not None and not 0 < thresh <= 1:
        raise InputError(f"thresh: expected None or a probability > 0 and <= 1; got {thresh}.")
    if min_kept < 1 if isinstance(min_kept, int) else not 0 < min_kept <= 1:
        raise InputError(f"min_kept: expected an integer >= 1, or a part > 0 and <= 1; got {min_kept!r}.")
    return Rule(math.inf if thresh is None else -math.log(thresh), min_kept, ranks)


def hardest(loss: Tensor, valid: Tensor, by: Rule) -> Tensor:
    """The K-th largest valid loss (0-d), -inf where no more than K can be valid.

    The one step in which all elements of a batch meet. Its shapes do not depend on what they hold.
    """
    own = torch.where(valid, loss, -torch.inf).flatten()
    if by.ranks is None and host.on_host(own):
        return limit_on_host(own, by.floor, by.min_kept)
    compiling = host.compiling_for_host(own)
    if by.ranks is None and not compiling:
        return kth_largest(own, by.min_kept)
    from losses_seg import _opaque  # registering an operator takes milliseconds

    part = by.min_kept if isinstance(by.min_kept, float) else None
    number = by.min_kept if isinstance(by.min_kept, int) else None
    limit: Tensor
    if by.ranks is None:
        limit = _opaque.hardest_on_host(own, by.floor, number, part)
        return limit
    limit = _opaque.kth_largest_of_all(own, number, part, group_name(by.ranks.group))
    return limit


def limit_on_host(own: Tensor, floor: float, min_kept: int | float) -> Tensor:
    """The K-th largest of a row where that decides anything; inf where K are above the floor without it."""
    valid = int(torch.count_nonzero(own != -torch.inf).item())
    wanted = min_kept if isinstance(min_kept, int) else math.ceil(min_kept * valid)
    if wanted >= valid:
        return own.new_full((), -torch.inf)
    if torch.count_nonzero(own > floor).item() >= wanted:
        return own.new_full((), torch.inf)
    return own.topk(wanted, sorted=False).values.amin()


def kth_largest(loss: Tensor, min_kept: int | float) -> Tensor:
    """The K-th largest of a row, in which -inf is no loss; -inf where there are no more than K."""
    size = loss.shape[0]
    if size == 0 or (isinstance(min_kept, int) and min_kept > size):
        return loss.new_full((), -torch.inf)
    if isinstance(min_kept, int):
        return loss.topk(min_kept, sorted=False).values.amin()
    # K depends on how many are valid: it is looked up among the most that there can be
    exact = torch.float32 if loss.device.type == "mps" else torch.float64
    k = ((loss != -torch.inf).sum().to(exact) * min_kept).ceil().long()
    return loss.topk(math.ceil(min_kept * size)).values.gather(0, (k - 1).clamp(min=0).unsqueeze(0)).squeeze(0)


def kept(loss: Tensor, valid: Tensor, limit: Tensor, floor: float) -> Tensor:
    """Where a loss is above the floor or among the K hardest, ties with the K-th included.

    Where more than K are above the floor, the K hardest are among them. Written as what is left out, so that NaN is
    kept and seen.
    """
    return valid & ~((loss <= floor) & (loss < limit))


class HardLabels(Function):
    """-w log p of the label (N,*S) where kept, else 0, and its normalizer; keeps the log-probabilities and the labels."""

    @staticmethod
    def forward(
        log_p: Tensor, labels: Tensor, skip: Tensor | None, class_weight: Tensor | None, ignore_index: int, rule: Rule
    ) -> tuple[Tensor, Tensor, Tensor]:
        label = safe_labels(labels, ignore_index)
        valid = _valid(labels, skip, ignore_index)
        loss = -log_p.gather(1, label).squeeze(1)
        limit = hardest(loss, valid, rule)
        normalizer = _mass(kept(loss, valid, limit, rule.floor), label, class_weight, loss.dtype)
        return (loss * normalizer).masked_fill_(normalizer == 0, 0), normalizer, limit

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        log_p, labels, skip, class_weight, ctx.ignore_index, ctx.rule = inputs
        ctx.save_for_backward(log_p, labels, skip, class_weight, output[2])
        ctx.mark_non_differentiable(output[1], output[2])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Any, ...]:
        log_p, labels, skip, class_weight, limit = ctx.saved_tensors
        label = safe_labels(labels, ctx.ignore_index)
        with torch.no_grad():
            loss = -log_p.gather(1, label).squeeze(1)
            hard = kept(loss, _valid(labels, skip, ctx.ignore_index), limit, ctx.rule.floor)
            normalizer = _mass(hard, label, class_weight, loss.dtype)
        share = (grad * -normalizer).masked_fill(normalizer == 0, 0).unsqueeze(1)
        return torch.zeros_like(log_p).scatter(1, label, share), None, None, None, None, None


class HardBinary(Function):
    """Binary cross-entropy of logits where kept, else 0, and where it is kept; keeps the logits and the target."""

    @staticmethod
    def forward(
        x: Tensor, t: Tensor, skip: Tensor | None, ignore_index: int, rule: Rule
    ) -> tuple[Tensor, Tensor, Tensor]:
        valid = _valid(t, skip, ignore_index)
        loss = _binary(x, t)
        limit = hardest(loss, valid, rule)
        hard = kept(loss, valid, limit, rule.floor)
        return loss.masked_fill_(~hard, 0), hard, limit

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, t, skip, ctx.ignore_index, ctx.rule = inputs
        ctx.save_for_backward(x, t, skip, output[2])
        ctx.mark_non_differentiable(output[1], output[2])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Any, ...]:
        x, t, skip, limit = ctx.saved_tensors
        with torch.no_grad():
            easy = ~kept(_binary(x, t), _valid(t, skip, ctx.ignore_index), limit, ctx.rule.floor)
        slope = torch.sigmoid(x.masked_fill(easy, 0)) - t.to(x.dtype)
        return (slope * grad).masked_fill(easy, 0), None, None, None, None


def soft_binary(
    x: Tensor, t: Tensor, skip: Tensor | None, ignore_index: int, by: Rule
) -> tuple[Tensor, Tensor, Tensor]:
    """What `HardBinary` gives on the host: the loss, as normalizer 1 where it is kept, and the derivative."""
    valid, loss = _valid(t, skip, ignore_index), _binary(x, t)
    hard = kept(loss, valid, hardest(loss, valid, by), by.floor)
    slope = torch.sigmoid(x) - t.to(x.dtype)
    return torch.where(hard, loss, 0), hard.to(x.dtype), torch.where(hard, slope, 0)


def _valid(target: Tensor, skip: Tensor | None, ignore_index: int) -> Tensor:
    valid = ~holds(target, ignore_index)
    return valid if skip is None else valid & ~skip


def _mass(hard: Tensor, label: Tensor, class_weight: Tensor | None, dtype: torch.dtype) -> Tensor:
    if class_weight is None:
        return hard.to(dtype)
    return torch.where(hard, class_weight[label.squeeze(1)], 0)


def _binary(x: Tensor, t: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(x, t.to(x.dtype), reduction="none")
