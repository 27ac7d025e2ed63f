"""Autograd building blocks: a cheap Function base, a gradient gate and one-pass elementwise losses."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

# torch's own check; where a future torch lacks it, the full (slower) apply is taken every time.
_transforms_active = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)


class Function(torch.autograd.Function):
    """An ``autograd.Function`` with a separate ``setup_context`` that costs no more than the classic form.

    The separate form is what ``torch.func`` and ``vmap`` need, but torch binds the signature of ``forward`` anew at
    every call, which takes longer than the whole loss of a few hundred boxes. Arguments here are positional, without
    defaults, so that step is skipped unless a transform is active. ``backward`` must be written in differentiable
    operations, or branch on ``torch.is_grad_enabled()`` where it works in place, so that double backward works.
    """

    generate_vmap_rule = True

    @classmethod
    def apply(cls, *args: Any) -> Any:
        if torch.compiler.is_compiling() or _transforms_active():
            return super().apply(*args)  # type: ignore[no-untyped-call]
        return super(torch.autograd.Function, cls).apply(*args)  # type: ignore[misc]


class _HideGradient(Function):
    @staticmethod
    def forward(x: Tensor, hidden: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (hidden,) = ctx.saved_tensors
        return grad.masked_fill(hidden, 0), None


def hide_gradient(x: Tensor, hidden: Tensor) -> Tensor:
    """Return ``x`` unchanged, with a gradient that is exactly zero where ``hidden`` is true.

    Multiplying a loss by zero does not do this: a NaN or inf in ``x`` turns the zero into NaN on the way back.

    Args:
        x: any tensor.
        hidden: bool, broadcastable to ``x``.

    Example:
        >>> import torch
        >>> x = torch.tensor([1.0, float("nan")], requires_grad=True)
        >>> (hide_gradient(x, torch.tensor([False, True])) ** 2).sum().backward()
        >>> x.grad
        tensor([2., 0.])
    """
    if not x.requires_grad:
        return x
    return _HideGradient.apply(x, hidden)  # type: ignore[no-any-return]


class Formula(Protocol):
    """An elementwise loss ``l(x, t)`` and its derivative, in differentiable operations.

    ``x`` has the shape of the result. ``t`` may have any shape the formula understands (a class index per row, say).
    ``constants`` are the further tensors given to `elementwise`. Instances hold plain numbers only.
    """

    def value(self, *args: Any, **kwargs: Any) -> Tensor:
        """``value(x, t, *constants)``: the loss of each element."""

    def slope(self, *args: Any, **kwargs: Any) -> Tensor:
        """``slope(x, t, *constants)``: dl/dx of each element, a new tensor."""

    def hidden(self, t: Tensor) -> Tensor | None:
        """True where an element is ignored, broadcastable to ``x``; None where nothing can be."""


class _Elementwise(Function):
    @staticmethod
    def forward(formula: Formula, x: Tensor, t: Tensor, *constants: Tensor | None) -> Tensor:
        return _masked(formula.value(x, t, *constants), formula.hidden(t))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.formula, *tensors = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, t, *constants = ctx.saved_tensors
        slope = ctx.formula.slope(x, t, *constants)
        # a new tensor that nothing else holds: in place, unless it is itself being differentiated
        slope = slope * grad if torch.is_grad_enabled() else slope.mul_(grad)
        return (None, _masked(slope, ctx.formula.hidden(t)), None, *(None for _ in constants))


def _masked(value: Tensor, hidden: Tensor | None) -> Tensor:
    if hidden is None:
        return value
    return value.masked_fill(hidden, 0) if torch.is_grad_enabled() else value.masked_fill_(hidden, 0)


def elementwise(formula: Formula, x: Tensor, t: Tensor, *constants: Tensor | None) -> Tensor:
    """Evaluate an elementwise loss that keeps only ``x``, ``t`` and ``constants`` for its backward.

    Composed from torch operations, a focal loss keeps seven to eleven tensors of the size of ``x``. Here the derivative
    is computed anew from the inputs. Where ``formula.hidden`` is true, value and gradient are exactly zero whatever
    stands there. Where the target itself asks for a gradient, the operations of ``formula.value`` are recorded instead.

    Args:
        formula: the loss and its derivative.
        x: predictions, floating.
        t: targets.
        constants: further tensors that the formula needs (class weights).

    Returns:
        The loss of each element, of the shape of ``x``.
    """
    if t.requires_grad or any(c is not None and c.requires_grad for c in constants):
        hidden = formula.hidden(t)
        if hidden is not None:
            x = hide_gradient(x, hidden)
        value = formula.value(x, t, *constants)
        return value if hidden is None else value.masked_fill(hidden, 0)
    return _Elementwise.apply(formula, x, t, *constants)  # type: ignore[no-any-return]
