"""Probabilities of logits, 0 at ignored pixels; so is the gradient there, whatever the logits hold."""

from __future__ import annotations

import torch
from torch import Tensor

from losses_core.utils.torch_compat import softmax_grad
from losses_seg._targets import Activation, masked, resolve


def probabilities(pred: Tensor, ignored: Tensor | None, activation: Activation = "auto") -> Tensor:
    """The probabilities of logits (N,C,*S), 0 where ``ignored``.

    Args:
        pred: logits, or with ``'none'`` probabilities.
        ignored: bool, broadcastable to ``pred``; None: nothing is ignored.
        activation: ``'auto'`` is ``'softmax'`` over axis 1 for several channels and ``'sigmoid'`` for one.
    """
    kind = resolve(activation, pred.shape[1])
    x = masked(pred, ignored)  # before the activation too: the gradient of a NaN would be NaN
    return x if kind == "none" else masked(activate(x, kind), ignored)


def activate(x: Tensor, activation: Activation, out: Tensor | None = None) -> Tensor:
    """The probabilities of logits (N,C,*S), by ``'softmax'``, ``'sigmoid'`` or ``'none'``; in ``out`` if given."""
    if activation == "none":
        return x if out is None else out.copy_(x)
    return torch.softmax(x, 1, out=out) if activation == "softmax" else torch.sigmoid(x, out=out)


def activation_grad(grad: Tensor, p: Tensor, activation: Activation) -> Tensor:
    """The gradient with respect to the logits, from that of their probabilities, in the memory of either."""
    if activation == "none":
        return grad
    if activation == "sigmoid":
        return torch.addcmul(p, p, p, value=-1, out=p).mul_(grad)
    grad.mul_(p)
    return torch.addcmul(grad, p, grad.sum(1, keepdim=True), value=-1, out=p)


def activation_grad_by_operator(grad: Tensor, p: Tensor, activation: Activation) -> Tensor:
    """The same, where the softmax of contiguous memory has an operator of its own, in new memory.

    On an accelerator it moves less than half the bytes of the products and the sum; a CPU has these in its cache.
    """
    if activation == "softmax" and (torch.compiler.is_compiling() or (p.is_contiguous() and grad.is_contiguous())):
        return softmax_grad(grad, p, 1)
    return activation_grad(grad, p, activation)
