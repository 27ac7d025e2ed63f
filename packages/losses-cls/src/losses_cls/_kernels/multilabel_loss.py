"""Kernels of the losses that compare positives with negatives."""

from __future__ import annotations

import torch
from torch import Tensor

from losses_cls.multilabel_loss import zlpr_loss
from losses_core.kernels import kernel


@kernel(zlpr_loss, bound=1.0, temporaries=7, large_blocks=True)
def zlpr_kernel(
    x: Tensor, target: Tensor, *, ignore_index: int | None, needs_grad: bool
) -> tuple[Tensor, Tensor | None]:
    """Value log(1 + Σ e^x) of the negatives plus that of -x of the positives, and the gradient ±e^(±x) / (1 + Σ)."""
    positive = target > 0.5
    signed = torch.where(positive, -x, x)
    if ignore_index is not None:
        signed.masked_fill_(target == ignore_index, -torch.inf)
    # the largest of each side and of the 1 = e^0 that is added to it
    tops = [signed.masked_fill(mask, -torch.inf).amax(1, keepdim=True).clamp_(min=0) for mask in (~positive, positive)]
    terms = signed.sub_(torch.where(positive, *tops)).exp_()
    part = (terms * positive).sum(1, keepdim=True), terms.masked_fill(positive, 0).sum(1, keepdim=True)
    rest = [total.add_(torch.expm1(-top)) for total, top in zip(part, tops, strict=True)]  # the sum less 1
    value = torch.log1p(rest[0]).add_(torch.log1p(rest[1])).add_(tops[0]).add_(tops[1])
    if not needs_grad:
        return value.squeeze(1), None
    return value.squeeze(1), terms.div_(torch.where(positive, -1 - rest[0], rest[1] + 1))
