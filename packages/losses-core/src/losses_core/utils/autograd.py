"""Autograd building blocks: a cheap Function base and a gradient gate."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from losses_core.utils.torch_compat import is_legacy_batched, transforms_active


def is_batched(grad: Tensor) -> bool:
    """Whether a backward runs for several incoming gradients at once (``is_grads_batched=True``, ``torch.func.vmap``).

    Such a gradient cannot be multiplied into a tensor in place.
    """
    return transforms_active() or is_legacy_batched(grad)


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
        if torch.compiler.is_compiling() or transforms_active():
            return super().apply(*args)  # type: ignore[no-untyped-call]
        return super(torch.autograd.Function, cls).apply(*args)  # type: ignore[misc]


class ClassicFunction(torch.autograd.Function):
    """An ``autograd.Function`` in the form with ``ctx``, for calls outside of ``torch.func`` transforms.

    ``torch.autograd.Function.apply`` looks for transforms at every call, which takes microseconds.
    """

    @classmethod
    def apply(cls, *args: Any) -> Any:
        if torch.compiler.is_compiling():
            return super().apply(*args)  # type: ignore[no-untyped-call]
        return super(torch.autograd.Function, cls).apply(*args)  # type: ignore[misc]


class _ZeroGradWhere(Function):
    @staticmethod
    def forward(x: Tensor, mask: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return grad.masked_fill(mask, 0), None


def zero_grad_where(x: Tensor, mask: Tensor) -> Tensor:
    """Return ``x`` unchanged, with a gradient that is exactly zero where ``mask`` is true.

    Multiplying a loss by zero does not do this: a NaN or inf in ``x`` turns the zero into NaN on the way back.

    Args:
        x: any tensor.
        mask: bool, broadcastable to ``x``.

    Example:
        >>> import torch
        >>> x = torch.tensor([1.0, float("nan")], requires_grad=True)
        >>> (zero_grad_where(x, torch.tensor([False, True])) ** 2).sum().backward()
        >>> x.grad
        tensor([2., 0.])
    """
    if not x.requires_grad:
        return x
    return _ZeroGradWhere.apply(x, mask)  # type: ignore[no-any-return]
