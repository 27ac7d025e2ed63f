"""Kernels of the asymmetric losses."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_cls._kernels._labels import split_labels
from losses_cls.asymmetric_loss import asymmetric_loss, smoothed_asymmetric
from losses_core.kernels import kernel
from losses_core.utils.focal import along_channels
from losses_core.utils.stable import power, scale_and_mask_


def _bound(*, gamma_neg: float, gamma_pos: float, **_: Any) -> float:
    """Largest gradient of an element: p (-log p) is at most 1/e, and p n (-log(1-p_m)) / p_m at most 1."""
    return 1 + max(gamma_neg, gamma_pos)


@kernel(asymmetric_loss, bound=_bound, temporaries=18)
def asymmetric_kernel(
    x: Tensor,
    t: Tensor,
    *,
    gamma_neg: float,
    gamma_pos: float,
    clip: float,
    disable_torch_grad_focal: bool,
    ignore_index: int | None,
    needs_grad: bool,
) -> tuple[Tensor, Tensor | None]:
    """Value a c + b d, with c = -log p, d = -log(1-p_m), a and b the targets times their focusing factors."""
    minus_x = -x
    c, n = F.softplus(minus_x), minus_x.sigmoid_()
    if clip:
        rest = (n + clip).clamp_(max=1)  # 1 - p_m
        p_m, d = torch.rsub(rest, 1), rest.log().neg_()
    else:
        rest, p_m, d = n, torch.sigmoid(x), F.softplus(x)
    a, b, grad = t * power(n, gamma_pos), torch.rsub(t, 1).mul_(power(p_m, gamma_neg)), None
    if needs_grad:
        p = torch.rsub(n, 1) if clip else p_m
        positive, negative = n, p  # -dc/dx, and dd/dx = p n / (1-p_m), which is 0 while p is below the margin
        if clip:
            negative = (p * n).div_(rest)
            if gamma_neg == 0:
                negative.mul_(p_m.sign())
        if not disable_torch_grad_focal:
            positive = torch.addcmul(n, p, c, value=gamma_pos)
            ratio = (p * n).mul_(d).div_(p_m.clamp(min=torch.finfo(x.dtype).tiny))
            negative = negative.add(ratio, alpha=gamma_neg)
        grad = (b * negative).sub_(a * positive)  # with addcmul_ a compiler would save a mask beside the gradient
    value = a.mul_(c).addcmul_(b, d)
    scale_and_mask_(value, grad, None, None if ignore_index is None else t == ignore_index)
    return value, grad


def _single_bound(*, gamma_neg: float, gamma_pos: float, class_weight: Any, **_: Any) -> float | None:
    """Largest gradient, as -p log p is at most 1/e."""
    return 1 + (gamma_pos + gamma_neg) / 2 if class_weight is None else None


@kernel(smoothed_asymmetric, bound=_single_bound, temporaries=6, large_blocks=True)
def smoothed_asymmetric_kernel(
    x: Tensor,
    target: Tensor,
    *,
    gamma_neg: float,
    gamma_pos: float,
    smoothing: float,
    class_weight: Tensor | None,
    ignore_index: int | None,
    needs_grad: bool,
) -> tuple[Tensor, Tensor | None]:
    """Value Σ f_c(log p_c) and gradient f' - p Σ f', with f_y = -a (1-p)^γ₊ log p and f_c = -b p^γ₋ log p."""
    labels, ignored = split_labels(target, ignore_index)
    each, grad = smoothing / x.shape[1], None
    log_p = F.log_softmax(x, 1)
    log_p_y = log_p.gather(1, labels)
    q = torch.expm1(log_p_y).neg_()  # 1 - p_y
    minus_focus = power(q, gamma_pos) * (smoothing - 1 - each)
    minus_others = torch.mul(log_p, gamma_neg).exp_().mul_(-each).scatter_(1, labels, 0)
    if class_weight is not None:
        minus_focus, minus_others = (
            minus_focus.mul_(class_weight[labels]),
            minus_others.mul_(along_channels(class_weight, x)),
        )
    value = minus_others.mul(log_p).sum(1, keepdim=True).addcmul_(minus_focus, log_p_y)
    if needs_grad:
        ratio = torch.rsub(q, 1).mul_(log_p_y).div_(q.clamp_(min=torch.finfo(q.dtype).tiny))  # p_y log p_y / q
        of_label = torch.addcmul(minus_focus, minus_focus, ratio, value=-gamma_pos)
        grad = torch.addcmul(minus_others, minus_others, log_p, value=gamma_neg).scatter_(1, labels, of_label)
        grad.sub_(log_p.exp_().mul_(grad.sum(1, keepdim=True)))
    scale_and_mask_(value, grad, None, ignored)
    return value.squeeze(1), grad
