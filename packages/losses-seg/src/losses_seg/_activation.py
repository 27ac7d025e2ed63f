"""Probabilities that are exactly zero at ignored pixels, and so is the gradient there, whatever the logits hold."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from losses_core.utils import host
from losses_core.utils.autograd import Function
from losses_seg._targets import Activation, hide, resolve


def slope_of_activation(grad: Tensor, p: Tensor, softmax: bool) -> Tensor:
    """From a derivative with respect to probabilities to that with respect to their logits; 0 where p is 0."""
    slope: Tensor
    if softmax:
        slope = torch.ops.aten._softmax_backward_data(grad, p, 1, p.dtype)
    else:
        slope = torch.ops.aten.sigmoid_backward(grad, p)
    return slope


class _Softmax(Function):
    """Keeps its result, as torch's does; where that is 0 the derivative p (g - Σ p g) is 0 as well."""

    @staticmethod
    def forward(x: Tensor, ignored: Tensor | None) -> Tensor:
        if host.compiling_for_host(x):
            # a compiler would compute the exponentials again in every loop that reads them
            from losses_seg import _opaque  # registering an operator takes milliseconds

            p: Tensor = _opaque.softmax_on_host(x, ignored)
            return p
        p = torch.softmax(x, 1)
        return p if ignored is None else host.zero_where_(p, ignored)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor | None], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (p,) = ctx.saved_tensors
        return slope_of_activation(grad, p, softmax=True), None


class _Sigmoid(Function):
    """Keeps its result; where that is 0 the derivative p (1-p) g is 0 as well."""

    @staticmethod
    def forward(x: Tensor, ignored: Tensor) -> Tensor:
        return host.zero_where_(torch.sigmoid(x), ignored)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (p,) = ctx.saved_tensors
        return slope_of_activation(grad, p, softmax=False), None


class _LogSoftmax(Function):
    """Keeps its result, which is 0 where ignored: there the derivative g - exp(0) Σ g is 0 as long as g is."""

    @staticmethod
    def forward(x: Tensor, ignored: Tensor) -> Tensor:
        return host.zero_where_(torch.log_softmax(x, 1), ignored)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (log_p,) = ctx.saved_tensors
        return torch.ops.aten._log_softmax_backward_data(grad, log_p, 1, log_p.dtype), None


def log_probabilities(pred: Tensor, ignored: Tensor | None) -> Tensor:
    """log softmax over axis 1, 0 where ``ignored``; what takes it further must give no gradient there."""
    if ignored is None:
        return torch.log_softmax(pred, 1)
    return _LogSoftmax.apply(pred, ignored)  # type: ignore[no-any-return]


def probabilities(pred: Tensor, ignored: Tensor | None, activation: Activation = "auto") -> Tensor:
    """The probabilities of logits (N,C,*S), 0 with gradient 0 where ``ignored``; only they are kept for the backward.

    Args:
        pred: logits, or with ``'none'`` probabilities.
        ignored: bool, broadcastable to ``pred``; None: nowhere.
        activation: ``auto`` is ``softmax`` over axis 1 for several channels and ``sigmoid`` for one.
    """
    kind = resolve(activation, pred.shape[1])
    if kind == "none":
        return hide(pred, ignored)
    if ignored is None and not (kind == "softmax" and host.compiling_for_host(pred)):
        return torch.softmax(pred, 1) if kind == "softmax" else torch.sigmoid(pred)
    return (_Softmax if kind == "softmax" else _Sigmoid).apply(pred, ignored)  # type: ignore[no-any-return]
