"""Kernels of the pixel losses that hard pixels are mined from."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core.kernels import kernel
from losses_seg._pixels import per_channel, pixel_binary_cross_entropy, pixel_cross_entropy


@kernel(pixel_cross_entropy, temporaries=5)
def soft_cross_entropy(
    x: Tensor, q: Tensor, *, class_weight: Tensor | None, ignored: Tensor | None, needs_grad: bool
) -> tuple[Tensor, Tensor | None]:
    """Of probabilities: w q log p, and with Q its sum of weights, p Q - w q."""
    q = q.to(x.dtype)
    weighted = q if class_weight is None else q * per_channel(class_weight, q)
    log_p = F.log_softmax(x, 1)
    loss = (weighted * log_p).masked_fill_(q == 0, 0).sum(1).neg_()
    grad = log_p.exp_().mul_(weighted.sum(1, keepdim=True)).sub_(weighted) if needs_grad else None
    return _mask(loss, grad, ignored)


@kernel(pixel_cross_entropy, bound=1.0, temporaries=3, supports=lambda pred, target, **_: target.ndim < pred.ndim)
def cross_entropy(
    x: Tensor, labels: Tensor, *, class_weight: Tensor | None, ignored: Tensor | None, needs_grad: bool
) -> tuple[Tensor, Tensor | None]:
    """Of labels: log p, and p - 1 at the label, p elsewhere."""
    labels = (labels if ignored is None else labels.masked_fill(ignored, 0)).unsqueeze(1)
    log_p = F.log_softmax(x, 1)
    at_label = log_p.gather(1, labels)
    grad = log_p.exp_().scatter_(1, labels, at_label.expm1()) if needs_grad else None
    return _mask(at_label.squeeze(1).neg_(), grad, ignored)


def _mask(loss: Tensor, grad: Tensor | None, ignored: Tensor | None) -> tuple[Tensor, Tensor | None]:
    if ignored is None:
        return loss, grad
    if grad is not None:
        grad = grad.masked_fill_(ignored.unsqueeze(1), 0)
    return loss.masked_fill_(ignored, -1), grad


@kernel(pixel_binary_cross_entropy, bound=1.0, temporaries=5)
def binary_cross_entropy(
    x: Tensor, t: Tensor, *, ignore_index: int | None, needs_grad: bool
) -> tuple[Tensor, Tensor | None]:
    """Loss, and σ(x) - t."""
    loss: Any = F.binary_cross_entropy_with_logits(x, t, reduction="none")
    grad = torch.sigmoid(x).sub_(t) if needs_grad else None
    if ignore_index is not None:
        ignored = t == ignore_index
        loss = loss.masked_fill_(ignored, -1)
        grad = None if grad is None else grad.masked_fill_(ignored, 0)
    return loss, grad
