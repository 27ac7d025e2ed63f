"""Kernels of the focal losses over class indices; that of the elementwise one is in losses-core."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_cls._kernels._labels import split_labels
from losses_cls.focal_loss.sigmoid import index_focal_loss
from losses_cls.focal_loss.softmax import label_factor, softmax_focal_loss
from losses_core._kernels.focal import focal_bound, sigmoid_focal_kernel
from losses_core.kernels import kernel
from losses_core.utils.stable import power, scale_and_mask_


def _bound(*, alpha: Any, gamma: float, class_weight: Any, **_: Any) -> float | None:
    """Largest gradient, as -p log p is at most 1/e."""
    return None if class_weight is not None or isinstance(alpha, Tensor) else (1 + gamma / 2) * max(alpha, 1e-6)


@kernel(softmax_focal_loss, bound=_bound)
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
    """Value and gradient, that of the cross-entropy c times d(q^γ c)/dc, with q = 1 - p_y and dq/dc = p_y."""
    labels, ignored = split_labels(target, ignore_index)
    log_p, grad = F.log_softmax(x, 1), None
    ce = -log_p.gather(1, labels)
    q = -torch.expm1(-ce)
    focus = power(q, gamma) * label_factor(labels, alpha, class_weight)
    if needs_grad:
        ratio = (1 - q) * ce / q.clamp(min=torch.finfo(q.dtype).tiny)  # p_y c / q, in [0, 1]
        grad = log_p.exp_().scatter_add_(1, labels, torch.full_like(ce, -1))
        grad.mul_(ratio.mul_(gamma).add_(1).mul_(focus))
    value = ce * focus
    scale_and_mask_(value, grad, None, ignored)
    return value.squeeze(1), grad


@kernel(index_focal_loss, bound=focal_bound)
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
    labels = target.unsqueeze(1)
    column = labels.clamp(0, x.shape[1] - 1)
    one_hot = torch.zeros_like(x).scatter_(1, column, (column == labels).to(x.dtype))
    options: dict[str, Any] = {"alpha": alpha, "gamma": gamma, "class_weight": class_weight, "ignore_index": None}
    value, grad = sigmoid_focal_kernel(x, one_hot, **options, needs_grad=needs_grad)
    scale_and_mask_(value, grad, None, None if ignore_index is None else labels == ignore_index)
    return value, grad
