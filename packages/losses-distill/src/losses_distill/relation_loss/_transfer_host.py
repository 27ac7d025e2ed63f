"""The divergence between conditional similarities on the host: summed, with its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from losses_core.utils import host
from losses_core.utils.summed import full_products, number, recorded, wanted
from losses_distill._pairwise_host import gram

Elements = Callable[[Tensor, Tensor], Tensor]


def summed_transfer(x: Tensor, t: Tensor, elements: Elements, eps: float, scale: float) -> Tensor:
    """``scale`` times the sum of the elements, which are given for a double backward."""
    return _Summed.apply(x, t, elements, eps, scale, wanted(x))  # type: ignore[no-any-return]


class _Summed(host.HostFunction):
    """Keeps both embeddings, and the matrix (N,N) that makes the gradient of the student's."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, t: Tensor, elements: Elements, eps: float, scale: float, slope_wanted: bool
    ) -> Tensor:
        ours, q = _Conditional(x), _Conditional(t).p
        shifted = ours.p + eps
        ratio = q / shifted
        # (q + ε) / (p + ε)
        logs = torch.addcdiv(ratio, shifted.new_full((), eps), shifted).log_()
        ctx.elements, ctx.scale = elements, scale
        ctx.save_for_backward(x, t, ours.weight(ratio, scale) if slope_wanted else None)
        return number(host.dot(q, logs).item() * scale, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, t, weight = ctx.saved_tensors
        if torch.is_grad_enabled():
            gradient = recorded(lambda given: ctx.elements(given, t), x, grad * ctx.scale)
        else:
            with full_products():
                gradient = torch.mm(weight, x).mul_(grad)
        return gradient, None, None, None, None, None


class _Conditional:
    """p_ij = K_ij / Σ_k K_ik with K = (cos + 1)/2, from the products of rows of any length."""

    def __init__(self, x: Tensor) -> None:
        self.cosines = gram(x)
        square = self.cosines.diagonal().clone()
        # NaN is not <= and stays visible
        self.inverse = torch.where(square <= 1e-24, torch.inf, square).rsqrt_()
        self.cosines.mul_(self.inverse).mul_(self.inverse.unsqueeze(1))
        # of -1, a cosine may round to less
        kernel = self.cosines.add(1).clamp_(min=0)
        self.total = kernel.sum(1, keepdim=True)
        self.p = kernel.div_(self.total)

    def weight(self, slope: Tensor, scale: float) -> Tensor:
        """(N,N) whose product with the rows is their gradient; from -dl/dp, which is overwritten."""
        along = (slope * self.p).sum(1, keepdim=True)
        of_cosine = slope.sub_(along).div_(self.total).mul_(-scale)
        both = of_cosine + of_cosine.T
        # through the scaling to length 1: what lies along a row itself falls away
        along = (both * self.cosines).sum(1)
        both.diagonal().sub_(along)
        return both.mul_(self.inverse).mul_(self.inverse.unsqueeze(1))
