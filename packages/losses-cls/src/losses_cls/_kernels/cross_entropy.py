"""Kernels of the cross-entropies: of labels, of distributions, and binary."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_cls._kernels._labels import split_labels
from losses_cls.cross_entropy.binary import binary_cross_entropy
from losses_cls.cross_entropy.softmax import cross_entropy, weighted_target
from losses_core.kernels import kernel
from losses_core.utils.focal import along_channels
from losses_core.utils.stable import logistic_loss, scale_and_mask_


def label_bound(*, class_weight: Tensor | None, **_: Any) -> float | None:
    """Largest gradient of an element, for class indices."""
    return 1.0 if class_weight is None else None


@kernel(
    cross_entropy,
    bound=label_bound,
    temporaries=4,
    large_blocks=True,
    supports=lambda pred, target, **_: target.ndim < pred.ndim,
)
def cross_entropy_of_labels(
    x: Tensor,
    target: Tensor,
    *,
    class_weight: Tensor | None,
    ignore_index: int | None,
    label_smoothing: float,
    needs_grad: bool,
) -> tuple[Tensor, Tensor | None]:
    """Value and gradient p Σt - t, from one log-softmax, where t is the smoothed and weighted target."""
    labels, ignored = split_labels(target, ignore_index)
    log_p, each, grad = F.log_softmax(x, 1), label_smoothing / x.shape[1], None
    value = log_p.gather(1, labels)
    if class_weight is None:
        minus_label = torch.full_like(value, label_smoothing - 1)
    else:
        minus_label = class_weight[labels].mul_(label_smoothing - 1)
    value.mul_(minus_label)
    if label_smoothing:
        weighted = log_p if class_weight is None else log_p * along_channels(class_weight, x)
        value.sub_(weighted.sum(1, keepdim=True), alpha=each)
    if needs_grad:
        grad = log_p.exp_()
        if class_weight is not None:
            grad.mul_(each * class_weight.sum() - minus_label)
        if label_smoothing:
            grad.sub_(each if class_weight is None else each * along_channels(class_weight, x))
        scale_and_mask_(minus_label, grad, None, ignored)  # before the scatter: a compiler joins the two passes
        grad.scatter_add_(1, labels, minus_label)
    scale_and_mask_(value, None, None, ignored)
    return value.squeeze(1), grad


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
    log_p = F.log_softmax(x, 1).clamp_(min=torch.finfo(x.dtype).min)  # q is 0 at most of its -inf, and 0 · -inf NaN
    value = (q * log_p).sum(1).neg_()
    value.masked_fill_(value > 1e30, torch.inf)  # q is not 0 at one of them
    grad = log_p.exp_().mul_(q.sum(1, keepdim=True)).sub_(q) if needs_grad else None
    return value, grad


def _binary_bound(*, pos_weight: Any, class_weight: Any, with_logits: bool, **_: Any) -> float | None:
    return 1.0 if with_logits and pos_weight is None and class_weight is None else None


@kernel(binary_cross_entropy, bound=_binary_bound, temporaries=9)
def binary_cross_entropy_kernel(
    x: Tensor,
    t: Tensor,
    *,
    pos_weight: Tensor | float | None,
    class_weight: Tensor | float | None,
    with_logits: bool,
    ignore_index: int | None,
    needs_grad: bool,
) -> tuple[Tensor, Tensor | None]:
    """Value and gradient, total · p - positive in logits."""
    positive, total, grad = t, None, None
    if pos_weight is not None:
        positive = t * along_channels(pos_weight, x)
        total = torch.rsub(t, 1).add_(positive)
    if not with_logits:
        value, grad = _of_probabilities(x, positive, 1 - t, needs_grad)
    else:
        value = logistic_loss(x, positive, total)
        if needs_grad:
            grad = torch.sigmoid(x) if total is None else torch.sigmoid(x).mul_(total)
            grad.sub_(positive)
    ignored = None if ignore_index is None else t == ignore_index
    scale_and_mask_(value, grad, along_channels(class_weight, x), ignored)
    return value, grad


def _of_probabilities(p: Tensor, positive: Tensor, negative: Tensor, needs_grad: bool) -> tuple[Tensor, Tensor | None]:
    """Each logarithm is at least -100, with a gradient of 0 there."""
    log_p, log_n, tiny = p.log().clamp_(min=-100), torch.log1p(-p).clamp_(min=-100), torch.finfo(p.dtype).tiny
    value = (positive * log_p).addcmul_(negative, log_n).neg_()
    if not needs_grad:
        return value, None
    grad = (negative / (1 - p).clamp_(min=tiny)).mul_(log_n > -100)
    return value, grad.sub_((positive / p.clamp(min=tiny)).mul_(log_p > -100))
