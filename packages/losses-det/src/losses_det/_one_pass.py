"""Value and slope of a loss in one pass, for losses whose value has one axis less than the prediction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from losses_core.utils.autograd import Function


class Loss(Protocol):
    """A loss (…) of a prediction (…,k) and its derivative."""

    @property
    def evaluate(self) -> Callable[..., tuple[Tensor, Tensor | None]]:
        """``evaluate(pred, *target, with_slope=)``: the loss and, if asked for, its slope in ``pred``."""

    @property
    def slope(self) -> Callable[..., Tensor]:
        """``slope(pred, *target)``, in differentiable operations.

        Where the target may ask for a gradient, that is ``slope(target, pred)``: the loss must be symmetric.
        """


class _OnePass(Function):
    """Keeps pred, target and, with ``keep``, the slope; without it the slope is computed anew in the backward."""

    @staticmethod
    def forward(loss: Loss, keep: bool, pred: Tensor, *target: Tensor) -> tuple[Tensor, Tensor | None]:
        return loss.evaluate(pred, *target, with_slope=keep)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor | None]) -> None:
        ctx.loss, _, pred, *target = inputs
        _, slope = output
        if slope is not None:
            ctx.mark_non_differentiable(slope)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(slope, pred, *target)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        slope, pred, *target = ctx.saved_tensors
        gradients: list[Tensor | None] = [None] * (3 + len(target))
        if grad is not None and ctx.needs_input_grad[2]:
            if slope is None or torch.is_grad_enabled():
                slope = ctx.loss.slope(pred, *target)
            gradients[2] = slope * grad.unsqueeze(-1)
        if grad is not None and ctx.needs_input_grad[3]:
            gradients[3] = ctx.loss.slope(*target, pred) * grad.unsqueeze(-1)
        return tuple(gradients)


def one_pass(loss: Loss, pred: Tensor, *target: Tensor, keep: bool) -> Tensor:
    """Evaluate a loss; ``keep``: compute the slope at once where a gradient will be asked for, and keep it.

    Where few elements make the number of operations count, that halves the time. While torch.compile traces, it is left
    to the compiler what to keep.
    """
    keep = keep and pred.requires_grad and torch.is_grad_enabled() and not torch.compiler.is_compiling()
    value, _ = _OnePass.apply(loss, keep, pred, *target)
    return value  # type: ignore[no-any-return]
