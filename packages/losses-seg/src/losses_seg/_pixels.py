"""Losses of single pixels, -1 for an ignored one: below every other loss, and finite, so that 0 times it is 0."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core.kernels import definition


@definition(layout="classes", rows=("ignored",))
def pixel_cross_entropy(
    pred: Tensor, target: Tensor, *, class_weight: Tensor | None = None, ignored: Tensor | None = None
) -> Tensor:
    """Cross-entropy of each pixel, -1 where ignored.

    Args:
        pred: logits (N,C,*S).
        target: labels (N,*S), or probabilities (N,C,*S).
        class_weight: (C,), for probabilities.
        ignored: bool (N,*S); None: nothing is ignored.
    """
    if ignored is not None:
        pred = pred.masked_fill(ignored.unsqueeze(1), 0)
    log_p = torch.log_softmax(pred, 1)
    if target.ndim < pred.ndim:
        labels = target if ignored is None else target.masked_fill(ignored, 0)
        loss = -log_p.gather(1, labels.long().unsqueeze(1)).squeeze(1)
    else:
        terms = -(target * log_p).masked_fill(target == 0, 0)  # 0 · log 0 is 0
        loss = (terms if class_weight is None else terms * per_channel(class_weight, terms)).sum(1)
    return loss if ignored is None else loss.masked_fill(ignored, -1)


@definition(layout="elements")
def pixel_binary_cross_entropy(pred: Tensor, target: Tensor, *, ignore_index: int | None = None) -> Tensor:
    """Binary cross-entropy of each element, -1 where ignored.

    Args:
        pred: logits.
        target: 0, 1, or soft, of the shape of ``pred``.
        ignore_index: value of the ignored elements; None: nothing is ignored.
    """
    target = target.to(pred.dtype)
    if ignore_index is None:
        return F.binary_cross_entropy_with_logits(pred, target, reduction="none")
    ignored = target == ignore_index
    loss = F.binary_cross_entropy_with_logits(
        pred.masked_fill(ignored, 0), target.masked_fill(ignored, 0), reduction="none"
    )
    return loss.masked_fill(ignored, -1)


def per_channel(vector: Tensor, x: Tensor) -> Tensor:
    """View (C,) so that it multiplies (N,C,*S)."""
    return vector.reshape(-1, *(1 for _ in x.shape[2:]))
