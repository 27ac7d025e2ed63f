"""Kernels of the cross-entropies: of labels, of distributions, and binary."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_cls._kernels._labels import split_labels
from losses_cls.cross_entropy.binary import binary_cross_entropy
from losses_cls.cross_entropy.softmax import cross_entropy, weighted_target
from losses_core.kernels import kernel
from losses_core.utils.focal import along_channels
from losses_core.utils.stable import logistic_loss, logistic_loss_of_targets, scale_and_mask_


def label_bound(*, class_weight: Tensor | None, **_: Any) -> float | None:
    """Largest gradient of an element, for class indices."""
    return 1.0 if class_weight is None else None


def cross_entropy_of_labels(
    x: Tensor,
    target: Tensor,
    *,
    class_weight: Tensor | None,
    ignore_index: int | None,
    label_smoothing: float,
    needs_grad: bool,
    on_cpu: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """Value and gradient p Σt - t, from one log-softmax, where t is the smoothed and weighted target."""
    labels, ignored = split_labels(target, ignore_index)
    log_p, share, grad = F.log_softmax(x, 1), label_smoothing / x.shape[1], None
    if on_cpu:
        value = _by_gather(log_p, labels, ignored, class_weight)
    else:  # the fewest kernels, and twice the time on a CPU
        ignore = -100 if ignore_index is None else ignore_index
        value = F.nll_loss(log_p, target, class_weight, ignore_index=ignore, reduction="none")
    if label_smoothing:
        weighted = log_p if class_weight is None else log_p * along_channels(class_weight, x)
        value.mul_(1 - label_smoothing).sub_(weighted.sum(1), alpha=share)
        scale_and_mask_(value, None, None, None if ignored is None else ignored.squeeze(1))
    if not needs_grad:
        return value, None
    minus_label = _constant(label_smoothing - 1, x, labels, ignored)
    grad = log_p.exp_()
    if class_weight is not None:
        minus_label = minus_label * class_weight[labels]
        grad.mul_(share * class_weight.sum() - minus_label)
    if label_smoothing:
        grad.sub_(share if class_weight is None else share * along_channels(class_weight, x))
    if ignored is not None:  # before the scatter: a compiler joins the two passes
        grad.masked_fill_(ignored, 0)
    return value, grad.scatter_add_(1, labels, minus_label)


for _on_cpu in (False, True):
    kernel(
        cross_entropy,
        bound=label_bound,
        device="cpu" if _on_cpu else None,
        temporaries=4,
        large_blocks=True,
        supports=lambda pred, target, **_: target.ndim < pred.ndim,
    )(partial(cross_entropy_of_labels, on_cpu=_on_cpu))


def _by_gather(log_p: Tensor, labels: Tensor, ignored: Tensor | None, class_weight: Tensor | None) -> Tensor:
    """-w log p of each label, 0 where ignored."""
    value = log_p.gather(1, labels).neg_()
    if class_weight is not None:
        value.mul_(class_weight[labels])
    scale_and_mask_(value, None, None, ignored)
    return value.squeeze(1)


def _constant(number: float, x: Tensor, labels: Tensor, ignored: Tensor | None) -> Tensor:
    """A number for each label, 0 where ignored."""
    if ignored is None:
        return x.new_full((), number).expand_as(labels)
    minus_one = torch.add(ignored, -1, out=x.new_empty(labels.shape))
    return minus_one if number == -1 else minus_one.mul_(-number)


@kernel(cross_entropy, temporaries=5, large_blocks=True, supports=lambda pred, target, **_: target.ndim == pred.ndim)
def cross_entropy_of_probabilities(
    x: Tensor,
    q: Tensor,
    *,
    class_weight: Tensor | None,
    ignore_index: int | None,
    label_smoothing: float,
    needs_grad: bool,
) -> tuple[Tensor, Tensor | None]:
    """Value and gradient p Σq - q, from one log-softmax."""
    q = weighted_target(q, class_weight, label_smoothing)
    log_p = F.log_softmax(x, 1)
    # nansum: q is 0 at most of the -inf, and 0 · -inf NaN; any other NaN is in the sum of q, or in the whole row of p
    value, total = (q * log_p).nansum(1).neg_(), q.sum(1, keepdim=True)
    grad = log_p.exp_().mul_(total)
    value.add_(grad.select(1, 0), alpha=0)
    return value, grad.sub_(q) if needs_grad else None


def _binary_bound(*, pos_weight: Any, class_weight: Any, with_logits: bool, **_: Any) -> float | None:
    return 1.0 if with_logits and pos_weight is None and class_weight is None else None


def _binary(
    x: Tensor,
    t: Tensor,
    *,
    pos_weight: Tensor | float | None,
    class_weight: Tensor | float | None,
    with_logits: bool,
    ignore_index: int | None,
    needs_grad: bool,
    formula: Callable[..., Tensor],
) -> tuple[Tensor, Tensor | None]:
    """Value and gradient, total · p - positive in logits; ``formula`` for a value without a ``pos_weight``."""
    positive, total, grad = t, None, None
    if pos_weight is not None:
        positive = t * along_channels(pos_weight, x)
        total = torch.rsub(t, 1).add_(positive)
    if not with_logits:
        value, grad = _of_probabilities(x, positive, 1 - t, needs_grad)
    else:
        value = formula(x, t) if total is None else logistic_loss(x, positive, total)
        if needs_grad:
            grad = torch.sigmoid(x) if total is None else torch.sigmoid(x).mul_(total)
            grad.sub_(positive)
    ignored = None if ignore_index is None else t == ignore_index
    scale_and_mask_(value, grad, along_channels(class_weight, x), ignored)
    return value, grad


kernel(binary_cross_entropy, bound=_binary_bound, temporaries=9)(partial(_binary, formula=logistic_loss_of_targets))
kernel(binary_cross_entropy, bound=_binary_bound, device="cpu")(partial(_binary, formula=logistic_loss))


def _of_probabilities(p: Tensor, positive: Tensor, negative: Tensor, needs_grad: bool) -> tuple[Tensor, Tensor | None]:
    """Each logarithm is at least -100, with a gradient of 0 there."""
    log_p, log_n, tiny = p.log().clamp_(min=-100), torch.log1p(-p).clamp_(min=-100), torch.finfo(p.dtype).tiny
    value = (positive * log_p).addcmul_(negative, log_n).neg_()
    if not needs_grad:
        return value, None
    grad = (negative / (1 - p).clamp_(min=tiny)).mul_(log_n > -100)
    return value, grad.sub_((positive / p.clamp(min=tiny)).mul_(log_p > -100))
