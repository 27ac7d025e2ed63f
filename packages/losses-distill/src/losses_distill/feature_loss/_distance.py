"""Distances of vectors scaled to length 1, in one pass back: kept are the two inputs and a number per vector."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core.utils.autograd import Function
from losses_distill._norm import inverse_norm


class NormalizedDistance(Function):
    """(x/‖x‖ - t/‖t‖)² or its absolute value, element by element."""

    @staticmethod
    def forward(x: Tensor, t: Tensor, squared: bool, dim: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        inverse_x, inverse_t = inverse_norm(x, dim, eps), inverse_norm(t, dim, eps)
        unit_x, unit_t = x * inverse_x, t * inverse_t
        value = F.mse_loss(unit_x, unit_t, reduction="none") if squared else unit_x.sub_(unit_t).abs_()
        return value, inverse_x, inverse_t

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, t, *ctx.settings = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(x, t, *output[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, None, None, None, None]:
        x, t, inverse_x, inverse_t = ctx.saved_tensors
        squared, dim, eps = ctx.settings
        if torch.is_grad_enabled():  # what was kept is not recorded
            inverse_x = inverse_norm(x, dim, eps)
            unit = x * inverse_x
            difference = unit - t * inverse_t
            slope = (2 * difference if squared else difference.sign()) * grad
            return (slope - unit * (unit * slope).sum(dim, keepdim=True)) * inverse_x, None, None, None, None
        unit, slope = x * inverse_x, t * inverse_t
        slope = torch.sub(unit, slope, out=slope)  # tensors of our own from here on
        slope = slope.mul_(2).mul_(grad) if squared else slope.sign_().mul_(grad)
        along = (unit * slope).sum(dim, keepdim=True)
        return slope.addcmul_(unit, along, value=-1).mul_(inverse_x), None, None, None, None


class CosineDistance(Function):
    """1 - x·t / (‖x‖ ‖t‖) along ``dim``, which is dropped."""

    @staticmethod
    def forward(x: Tensor, t: Tensor, dim: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        inverse_x = inverse_norm(x, dim, eps)
        factor = inverse_x * inverse_norm(t, dim, eps)
        cosine = (x * t).sum(dim, keepdim=True) * factor
        return (1 - cosine).squeeze(dim), factor, cosine * inverse_x * inverse_x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, t, ctx.dim, ctx.eps = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(x, t, *output[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, None, None, None]:
        x, t, of_t, of_x = ctx.saved_tensors
        if torch.is_grad_enabled():  # what was kept is not recorded
            inverse_x = inverse_norm(x, ctx.dim, ctx.eps)
            of_t = inverse_x * inverse_norm(t, ctx.dim, ctx.eps)
            of_x = (x * t).sum(ctx.dim, keepdim=True) * of_t * inverse_x * inverse_x
        grad = grad.unsqueeze(ctx.dim)
        return torch.addcmul(x * (of_x * grad), t, of_t * grad, value=-1), None, None, None
