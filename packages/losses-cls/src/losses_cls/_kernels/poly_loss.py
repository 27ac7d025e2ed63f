"""Kernels of Poly-1 cross-entropy; that of the focal form is in losses-core."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_cls._kernels._labels import split_labels
from losses_cls.cross_entropy.softmax import weighted_target
from losses_cls.poly_loss import poly_cross_entropy_loss
from losses_core.kernels import kernel
from losses_core.utils.focal import along_channels
from losses_core.utils.stable import scale_and_mask_


def _bound(*, epsilon: float, class_weight: Tensor | None, **_: Any) -> float | None:
    return 1.0 + abs(epsilon) if class_weight is None else None


@kernel(
    poly_cross_entropy_loss,
    bound=_bound,
    temporaries=5,
    large_blocks=True,
    supports=lambda pred, target, **_: target.ndim < pred.ndim,
)
def poly_cross_entropy_of_labels(
    x: Tensor,
    target: Tensor,
    *,
    epsilon: float,
    class_weight: Tensor | None,
    ignore_index: int | None,
    label_smoothing: float,
    needs_grad: bool,
) -> tuple[Tensor, Tensor | None]:
    """Value of a weighted label a (-log p_y + ε (1-p_y)) and gradient a (1 + ε p_y) (p - onehot).

    Smoothing adds the same of all classes with weights b: the gradient p (Σ b (1 + ε p) - ε b) - b.
    """
    labels, ignored = split_labels(target, ignore_index)
    log_p, grad = F.log_softmax(x, 1), None
    log_p_y = log_p.gather(1, labels)
    on_label = torch.expm1(log_p_y)  # p_y - 1
    minus_label: Any = label_smoothing - 1
    if class_weight is not None:
        minus_label = class_weight[labels].mul_(minus_label)
    value = torch.add(log_p_y, on_label, alpha=epsilon).mul_(minus_label)
    turn = on_label.mul(epsilon).add_(1 + epsilon).mul_(minus_label)  # -a (1 + ε p_y)
    if label_smoothing:
        b: Any = label_smoothing / x.shape[1]
        b = b if class_weight is None else b * along_channels(class_weight, x)
        p = torch.exp(log_p)
        # 1 - p is a little less precise than -expm1(log p), beside a term of the same weight as -log p
        value.sub_(torch.add(log_p, p, alpha=epsilon).sub_(epsilon).mul_(b).sum(1, keepdim=True))
        if needs_grad:
            total = label_smoothing if class_weight is None else b.sum()
            row = (p * b).sum(1, keepdim=True).mul_(epsilon).add_(total).sub_(turn)
            grad = p.mul_(row.sub(epsilon * b)).sub_(b)
            scale_and_mask_(turn, grad, None, ignored)  # before the scatter: a compiler joins the two passes
            grad.scatter_add_(1, labels, turn)
    elif needs_grad:
        scale_and_mask_(turn, None, None, ignored)
        grad = log_p.exp_().scatter_(1, labels, on_label).mul_(turn.neg_())
    scale_and_mask_(value, None if label_smoothing else grad, None, ignored)
    return value.squeeze(1), grad


@kernel(
    poly_cross_entropy_loss,
    temporaries=6,
    large_blocks=True,
    supports=lambda pred, target, **_: target.ndim == pred.ndim,
)
def poly_cross_entropy_of_probabilities(
    x: Tensor,
    q: Tensor,
    *,
    epsilon: float,
    class_weight: Tensor | None,
    ignore_index: int | None,
    label_smoothing: float,
    needs_grad: bool,
) -> tuple[Tensor, Tensor | None]:
    """Value Σ q (-log p + ε (1-p)) and gradient p (Σ q (1 + ε p) - ε q) - q."""
    q = weighted_target(q, class_weight, label_smoothing)
    log_p = F.log_softmax(x, 1).clamp_(min=torch.finfo(x.dtype).min)  # q is 0 at most of its -inf, and 0 · -inf NaN
    value = torch.expm1(log_p).mul_(epsilon).add_(log_p).mul_(q).sum(1).neg_()
    value.masked_fill_(value > 1e30, torch.inf)  # q is not 0 at one of them
    if not needs_grad:
        return value, None
    p = log_p.exp_()
    row = torch.addcmul(q, q, p, value=epsilon).sum(1, keepdim=True)
    return value, torch.sub(row, q, alpha=epsilon).mul_(p).sub_(q)
