"""Probabilities that are exactly zero at ignored pixels, and so is the gradient there, whatever the logits hold."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from losses_core.utils.autograd import Function
from losses_seg._targets import Activation, resolve


def zero_where_(x: Tensor, where: Tensor) -> Tensor:
    """``x.masked_fill_(where, 0)`` for a mask that broadcasts; ``x`` is a fresh temporary."""
    if torch.compiler.is_compiling() or x.device.type != "cpu":
        return x.masked_fill_(where, 0)
    # the same on the bits: on the CPU, masked_fill_ with a mask that broadcasts takes as long as the softmax itself
    bits = torch.int64 if x.dtype == torch.float64 else torch.int32
    x.view(bits).bitwise_and_(where.to(bits).sub_(1))
    return x


class _Softmax(Function):
    """Keeps its result, as torch's does; where that is 0 the derivative p (g - Σ p g) is 0 as well."""

    @staticmethod
    def forward(x: Tensor, ignored: Tensor) -> Tensor:
        return zero_where_(torch.softmax(x, 1), ignored)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (p,) = ctx.saved_tensors
        return torch.ops.aten._softmax_backward_data(grad, p, 1, p.dtype), None


class _Sigmoid(Function):
    """Keeps its result; where that is 0 the derivative p (1-p) g is 0 as well."""

    @staticmethod
    def forward(x: Tensor, ignored: Tensor) -> Tensor:
        return zero_where_(torch.sigmoid(x), ignored)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (p,) = ctx.saved_tensors
        return torch.ops.aten.sigmoid_backward(grad, p), None


class _LogSoftmax(Function):
    """Keeps its result, which is 0 where ignored: there the derivative g - exp(0) Σ g is 0 as long as g is."""

    @staticmethod
    def forward(x: Tensor, ignored: Tensor) -> Tensor:
        return zero_where_(torch.log_softmax(x, 1), ignored)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (log_p,) = ctx.saved_tensors
        return torch.ops.aten._log_softmax_backward_data(grad, log_p, 1, log_p.dtype), None


def log_probabilities(pred: Tensor, ignored: Tensor) -> Tensor:
    """log softmax over axis 1, 0 where ``ignored``; what takes it further must give no gradient there."""
    return _LogSoftmax.apply(pred, ignored)  # type: ignore[no-any-return]


def probabilities(pred: Tensor, ignored: Tensor, activation: Activation = "auto") -> Tensor:
    """The probabilities of logits (N,C,*S), 0 with gradient 0 where ``ignored``; only they are kept for the backward.

    Args:
        pred: logits, or with ``'none'`` probabilities.
        ignored: bool, broadcastable to ``pred``.
        activation: ``auto`` is ``softmax`` over axis 1 for several channels and ``sigmoid`` for one.
    """
    match resolve(activation, pred.shape[1]):
        case "softmax":
            return _Softmax.apply(pred, ignored)  # type: ignore[no-any-return]
        case "sigmoid":
            return _Sigmoid.apply(pred, ignored)  # type: ignore[no-any-return]
        case _:
            return pred.masked_fill(ignored, 0)
