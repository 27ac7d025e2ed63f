"""Binary cross-entropy of logits on the host, summed: in one pass, of which the gradient is what is kept."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from losses_core.utils import host
from losses_core.utils.logistic import logistic
from losses_core.utils.summed import handed_on, number


def summed_binary(x: Tensor, t: Tensor, scale: float) -> Tensor:
    """``scale`` times the sum of -t ln σ(x) - (1-t) ln σ(-x), of which nothing is ignored."""
    return _OfBinary.apply(x, t, scale)[0]  # type: ignore[no-any-return]


class _OfBinary(host.HostFunction):
    """The sum, and its gradient scale · (p - t), which is kept beside t.

    That slope is a second output, so that a double backward finds its derivative in the graph.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, t: Tensor, scale: float) -> tuple[Tensor, Tensor | None]:
        slope = torch.empty(x.shape, dtype=x.dtype) if ctx.needs_input_grad[0] else None
        parts = [tensor.reshape(-1).split(host.BLOCK) for tensor in ((x, t) if slope is None else (x, t, slope))]
        total = 0.0
        for x_part, t_part, *part in zip(*parts, strict=True):
            total += logistic(x_part, t_part).sum().item()
            if part:
                torch.sigmoid(x_part, out=part[0]).sub_(t_part).mul_(scale)
        ctx.scale = scale
        ctx.save_for_backward(slope, t)
        ctx.set_materialize_grads(False)
        return number(total * scale, x), slope

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, grad_slope: Tensor | None) -> tuple[Tensor | None, None, None]:
        slope, t = ctx.saved_tensors
        total = None
        if grad is not None:
            total = handed_on(slope, grad)
        if grad_slope is not None:
            # scale · p (1-p), without a division where the scale is 0
            p = slope / (ctx.scale or 1.0) + t
            of_slope = (p - p.square()) * (grad_slope * ctx.scale)
            total = of_slope if total is None else total + of_slope
        return total, None, None
