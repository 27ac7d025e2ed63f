"""Value and slope of a loss in one pass, for losses whose value has one axis less than the prediction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from losses_core.utils import host
from losses_core.utils.autograd import Function
from losses_core.utils.deferred import Deferred
from losses_core.utils.weight_reduce import Unreduced


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


class Rows(Deferred):
    """A loss of each row that is not computed yet.

    Args:
        loss: the loss and its derivative.
        pred: (…,k).
        target: one tensor or more, all (…) or (…,k).
        keep: whether to compute the slope with the value, where a gradient will be asked for, and to keep it: where it
            is small, or all that is kept. A compiler decides that itself.
        rows: so many rows are handled together on the host.
    """

    def __init__(self, loss: Loss, pred: Tensor, *target: Tensor, keep: bool, rows: int) -> None:
        self.loss, self.x, self.target, self.rows = loss, pred, target, rows
        self._keep = keep and pred.requires_grad and torch.is_grad_enabled() and not torch.compiler.is_compiling()
        self._host = host.on_host(pred, *target) and not any(t.requires_grad for t in target)

    @property
    def summable(self) -> bool:
        return self._host

    @property
    def batch(self) -> int:
        return self.x.shape[0] if self.x.ndim > 1 else 1

    def normalizer(self) -> float:
        return self.x.shape[:-1].numel()

    def elements(self) -> Tensor:
        """The loss of each row."""
        if self._host:
            return self._on_host(None)
        return _OnePass.apply(self.loss, self._keep, self.x, *self.target)[0]  # type: ignore[no-any-return]

    def unreduced(self) -> Unreduced:
        return Unreduced(self.elements())

    def total(self, scale: float | Tensor) -> Tensor:
        return self._on_host(scale)

    def _on_host(self, scale: float | Tensor | None) -> Tensor:
        return _OnHost.apply(self.loss, self._keep, self.rows, scale, self.x, *self.target)  # type: ignore[no-any-return]


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


class _OnHost(host.HostFunction):
    """The same on the host, some rows at a time; with a scale, nothing but the sum."""

    @staticmethod
    def forward(
        ctx: Any, loss: Loss, keep: bool, rows: int, scale: float | Tensor | None, pred: Tensor, *target: Tensor
    ) -> Tensor:
        ctx.loss, ctx.rows, ctx.scale = loss, rows, scale
        parts = _parts(rows, pred, *target)
        if len(parts) == 1:
            value, slope = loss.evaluate(*parts[0], with_slope=keep)
            result = value.view(pred.shape[:-1]) if scale is None else value.sum() * scale
        else:
            slope = torch.empty(pred.shape, dtype=pred.dtype) if keep else None
            filled = [(None,)] * len(parts) if slope is None else _parts(rows, slope)
            values = []
            for part, (place,) in zip(parts, filled, strict=True):
                value, part_slope = loss.evaluate(*part, with_slope=keep)
                values.append(value if scale is None else value.sum())
                if place is not None and part_slope is not None:
                    place.copy_(part_slope)
            result = torch.cat(values).view(pred.shape[:-1]) if scale is None else torch.stack(values).sum() * scale
        ctx.save_for_backward(slope, pred, *target)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        slope, pred, *target = ctx.saved_tensors
        grad = grad.unsqueeze(-1) if ctx.scale is None else grad * ctx.scale
        if torch.is_grad_enabled():
            gradient = ctx.loss.slope(pred, *target) * grad
        elif slope is not None:
            gradient = slope.view(pred.shape) * grad
        else:
            gradient = torch.empty(pred.shape, dtype=pred.dtype)
            grads = () if grad.ndim == 0 else (grad,)
            for *part, filled, given in _with_gradients(ctx.rows, grad, grads, pred, *target, gradient):
                torch.mul(ctx.loss.slope(*part), given, out=filled)
        return None, None, None, None, gradient, *(None for _ in target)


def _parts(rows: int, *tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """The tensors, their leading axes as one, in parts of so many rows."""
    dims = tensors[0].ndim - 1
    if dims != 1:
        tensors = tuple(t.reshape(-1, *t.shape[dims:]) for t in tensors)
    if tensors[0].shape[0] <= rows:
        return [tensors]
    return list(zip(*(tensor.split(rows) for tensor in tensors), strict=True))


def _with_gradients(rows: int, grad: Tensor, grads: tuple[Tensor, ...], *tensors: Tensor) -> list[tuple[Tensor, ...]]:
    parts = _parts(rows, *tensors, *grads)
    return parts if grads else [(*part, grad) for part in parts]
