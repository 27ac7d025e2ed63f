"""Kernel of the sigmoid focal loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from losses_core.kernels import kernel
from losses_core.utils.focal import along_channels, sigmoid_focal
from losses_core.utils.stable import logistic_loss_of_targets, power, scale_and_mask_


def focal_bound(*, alpha: Any, gamma: float, class_weight: Any, epsilon: float = 0.0, **_: Any) -> float | None:
    """Largest gradient of an element, as p (-log p) is at most 1/e; None for options in tensors."""
    if class_weight is not None or isinstance(alpha, Tensor):
        return None
    of_polynomial = abs(epsilon) * (gamma + 1) / 4
    return (1 + gamma / 2 + of_polynomial) * (1 if alpha is None else max(alpha, 1 - alpha))


@kernel(sigmoid_focal, bound=focal_bound, temporaries=11)
def sigmoid_focal_kernel(
    x: Tensor,
    t: Tensor,
    *,
    alpha: Tensor | float | None,
    gamma: float,
    class_weight: Tensor | float | None,
    ignore_index: int | None,
    epsilon: float = 0.0,
    needs_grad: bool,
) -> tuple[Tensor, Tensor | None]:
    """Value α_t q^γ ce and its gradient α_t q^(γ-1) [q (p-t) + γ (dq/dx) ce], where dq/dx = (1-2t) p (1-p).

    With ε, ce + ε q takes the place of ce, and p-t + ε (dq/dx) that of p-t.
    """
    p, value, grad = torch.sigmoid(x), logistic_loss_of_targets(x, t), None
    signed = torch.addcmul(p, p, t, value=-2)  # (1-2t) p
    q = signed + t
    whole = gamma >= 1  # else q^(γ-1) is infinite where q is 0, unlike (dq/dx) ce / q, which is at most 1/e
    outer, factor = power(q, gamma - 1 if whole else gamma), _factor(x, t, alpha, class_weight)
    if factor is not None:
        outer = outer * factor
    if epsilon:
        value.add_(q, alpha=epsilon)
    if needs_grad:
        turn = torch.addcmul(signed, signed, p, value=-1)
        grad = p.sub_(t)
        if epsilon:
            grad.add_(turn, alpha=epsilon)
        if whole:
            grad.mul_(q).addcmul_(turn, value, value=gamma)
        else:
            grad.addcdiv_(turn.mul_(value), q.clamp(min=torch.finfo(q.dtype).tiny), value=gamma)
        grad.mul_(outer)
    value.mul_(outer)
    if whole:
        value.mul_(q)
    scale_and_mask_(value, grad, None, None if ignore_index is None else t == ignore_index)
    return value, grad


def _factor(x: Tensor, t: Tensor, alpha: Tensor | float | None, class_weight: Tensor | float | None) -> Any:
    """α_t w: α t + (1-α) (1-t), times the weight of the class."""
    weight = along_channels(class_weight, x)
    if alpha is None:
        return weight
    alpha = along_channels(alpha, x)
    if isinstance(alpha, Tensor):
        balance = torch.addcmul(1 - alpha, t, 2 * alpha - 1)
    else:
        balance = torch.rsub(t, 1 - alpha, alpha=1 - 2 * alpha)
    return balance if weight is None else balance.mul_(weight)
