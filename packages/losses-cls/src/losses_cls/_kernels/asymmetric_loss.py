"""Kernel of the asymmetric loss."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_cls.asymmetric_loss import asymmetric_loss
from losses_core.kernels import kernel
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
