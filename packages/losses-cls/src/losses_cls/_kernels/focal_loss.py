"""Kernels of the focal losses over class indices; that of the elementwise one is in losses-core."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_cls._kernels._labels import split_labels
from losses_cls.focal_loss.sigmoid import index_focal_loss, one_hot
from losses_cls.focal_loss.softmax import label_factor, softmax_focal_loss
from losses_core._kernels.focal import focal_bound, sigmoid_focal_kernel
from losses_core.kernels import kernel
from losses_core.utils.stable import power, scale_and_mask_


def _bound(*, alpha: Any, gamma: float, class_weight: Any, **_: Any) -> float | None:
    """Largest gradient, as -p log p is at most 1/e."""
    return None if class_weight is not None or isinstance(alpha, Tensor) else (1 + gamma / 2) * max(alpha, 1e-6)


@kernel(softmax_focal_loss, bound=_bound, temporaries=4, large_blocks=True)
def softmax_focal_kernel(
    x: Tensor,
    target: Tensor,
    *,
    alpha: Tensor | float,
    gamma: float,
    class_weight: Tensor | None,
    ignore_index: int | None,
    needs_grad: bool,
) -> tuple[Tensor, Tensor | None]:
    """Value f(c) = α q^γ c of the cross-entropy c = -log p_y, with q = 1 - p_y, and gradient f'(c) (p - onehot)."""
    labels, ignored = split_labels(target, ignore_index)
    log_p, grad = F.log_softmax(x, 1), None
    log_p_y = log_p.gather(1, labels)
    if ignored is not None:
        log_p_y.masked_fill_(ignored, 0)
    minus_q = torch.expm1(log_p_y)
    q = -minus_q
    whole = gamma >= 1  # else q^(γ-1) is infinite where q is 0, unlike (1-q) c / q, which is at most 1
    minus_outer = power(q, gamma - 1 if whole else gamma) * -label_factor(labels, alpha, class_weight)
    value = minus_outer * log_p_y
    if whole:
        value.mul_(q)
    if needs_grad:
        grad, p_y = log_p.exp_().scatter_(1, labels, minus_q), minus_q + 1
        if whole:
            derivative = torch.addcmul(minus_q, log_p_y, p_y, value=gamma).mul_(minus_outer)
        else:
            ratio = p_y.mul_(log_p_y).div_(q.clamp_(min=torch.finfo(q.dtype).tiny))  # in [-1, 0]
            derivative = torch.addcmul(minus_outer, minus_outer, ratio, value=-gamma).neg_()
        grad.mul_(derivative)
        if ignored is not None:
            grad.masked_fill_(ignored, 0)
    return value.squeeze(1), grad


@kernel(index_focal_loss, bound=focal_bound, temporaries=11)
def index_focal_kernel(
    x: Tensor,
    target: Tensor,
    *,
    alpha: Tensor | float | None,
    gamma: float,
    class_weight: Tensor | float | None,
    ignore_index: int | None,
    needs_grad: bool,
) -> tuple[Tensor, Tensor | None]:
    """The elementwise kernel on the one-hot targets of a block."""
    options: dict[str, Any] = {"alpha": alpha, "gamma": gamma, "class_weight": class_weight, "ignore_index": None}
    value, grad = sigmoid_focal_kernel(x, one_hot(x, target), **options, needs_grad=needs_grad)
    scale_and_mask_(value, grad, None, None if ignore_index is None else (target == ignore_index).unsqueeze(1))
    return value, grad
