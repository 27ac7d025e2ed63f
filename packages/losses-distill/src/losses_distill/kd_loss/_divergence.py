"""The Kullback-Leibler divergence of softened probabilities, with a backward that keeps no softmax."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from losses_core.utils.autograd import Function
from losses_distill.kd_loss._softening import Softening


def divergence(a: Tensor, b: Tensor, hidden: Tensor | None, softening: Softening) -> Tensor:
    """T²·KL(softmax z_a ‖ softmax z_b) along the class axis; 0 where ``hidden``."""
    if a.requires_grad or softening.standardize:
        return _General.apply(a, b, hidden, softening)  # type: ignore[no-any-return]
    if torch.compiler.is_compiling():
        return _Traced.apply(a, b, hidden, softening)[0]  # type: ignore[no-any-return]
    return _OfModel.apply(a, b, hidden, softening)[0]  # type: ignore[no-any-return]


def value_and_gap(a: Tensor, b: Tensor, hidden: Tensor | None, softening: Softening) -> tuple[Tensor, Tensor]:
    """T²·KL, and softmax z_b - softmax z_a, which is its gradient with respect to z_b over T²."""
    z_a, p, log_sum_a = _centred(softening.scaled(a), softening.axis)
    z_b, gap, log_sum_b = _centred(softening.scaled(b), softening.axis)
    # where both logits are -inf the term is NaN and means 0
    value = (z_a - z_b).add_(log_sum_b - log_sum_a).mul_(p).nansum(softening.axis)
    gap.sub_(p)  # in place: a new tensor would cost more than the arithmetic
    # a NaN that was given fills its whole row, so the first class can put it back
    value = value.add_(gap.select(softening.axis, 0), alpha=0).mul_(softening.temperature**2)
    if hidden is None:
        return value, gap
    return value.masked_fill_(hidden, 0), _unhidden(gap, hidden, softening)


def _centred(z: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
    """z - max z, softmax z, and the logarithm of Σ exp(z - max z), without a second pass of exp."""
    z = z - z.amax(axis, keepdim=True)
    p = torch.softmax(z, axis)
    return z, p, -p.amax(axis, keepdim=True).log()


class _OfModel(Function):
    """Only ``b`` asks for a gradient: keeps the gap, which is that gradient, and ``a``.

    Both logits would be as much to keep, and cost two softmax more. ``a`` is there for the double backward: it needs
    softmax z_b, which is the gap plus softmax z_a.
    """

    @staticmethod
    def forward(a: Tensor, b: Tensor, hidden: Tensor | None, softening: Softening) -> tuple[Tensor, Tensor]:
        return value_and_gap(a, b, hidden, softening)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        a, _, hidden, ctx.softening = inputs
        ctx.save_for_backward(a, hidden, output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, grad_gap: Tensor | None) -> tuple[None, Tensor | None, None, None]:
        a, hidden, gap = ctx.saved_tensors
        softening: Softening = ctx.softening
        grad_b = None
        if grad is not None:  # T² from the loss, 1/T from z = x/T
            grad_b = gap * (grad * softening.temperature).unsqueeze(softening.axis)
        if grad_gap is not None:
            q = gap + softening.probabilities(a)
            second = q * (grad_gap - (q * grad_gap).sum(softening.axis, keepdim=True)) / softening.temperature
            second = second if hidden is None else _unhidden(second, hidden, softening)
            grad_b = second if grad_b is None else grad_b + second
        return None, grad_b, None, None


class _Traced(Function):
    """The same for a compiler: keeps the logits, and per position what the exponentials are scaled with.

    In a compiled loop exponentials cost less than to move them to and from memory.
    """

    @staticmethod
    def forward(a: Tensor, b: Tensor, hidden: Tensor | None, softening: Softening) -> tuple[Tensor, ...]:
        axis, inverse = softening.axis, 1 / softening.temperature
        z_a, z_b = a * inverse, b * inverse
        top_a, top_b = z_a.amax(axis, keepdim=True), z_b.amax(axis, keepdim=True)
        z_a, z_b = z_a - top_a, z_b - top_b
        e_a = z_a.exp()
        sum_a, sum_b = e_a.sum(axis, keepdim=True), z_b.exp().sum(axis, keepdim=True)
        # where both logits are -inf the term is NaN and means 0
        terms = torch.where(e_a == 0, 0, e_a * (z_a - z_b))
        value = (terms.sum(axis, keepdim=True) / sum_a + (sum_b / sum_a).log()).squeeze(axis)
        value = value * softening.temperature**2
        # not stacked, which would part the loops
        return value if hidden is None else value.masked_fill(hidden, 0), top_a, top_b, sum_a, sum_b

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *kept, ctx.softening = inputs
        ctx.save_for_backward(*kept, *output[1:])
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[None, Tensor, None, None]:
        a, b, hidden, top_a, top_b, sum_a, sum_b = ctx.saved_tensors
        softening: Softening = ctx.softening
        inverse = 1 / softening.temperature
        gap = (b * inverse - top_b).exp() / sum_b - (a * inverse - top_a).exp() / sum_a
        grad_b = gap * (grad * softening.temperature).unsqueeze(softening.axis)
        return None, grad_b if hidden is None else _unhidden(grad_b, hidden, softening), None, None


class _General(Function):
    """Gradients with respect to both, through the standardisation: keeps the logits, computes the rest anew."""

    @staticmethod
    def forward(a: Tensor, b: Tensor, hidden: Tensor | None, softening: Softening) -> Tensor:
        return value_and_gap(a, b, hidden, softening)[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        a, b, hidden, ctx.softening = inputs
        ctx.save_for_backward(a, b, hidden)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        a, b, hidden = ctx.saved_tensors
        softening: Softening = ctx.softening
        scale = (grad * softening.temperature).unsqueeze(softening.axis)
        log_p, log_q = softening.log_probabilities(a), softening.log_probabilities(b)
        p = log_p.exp()
        grad_a = grad_b = None
        if ctx.needs_input_grad[0]:
            excess = torch.where(p == 0, 0, log_p - log_q)
            mean = (p * excess).sum(softening.axis, keepdim=True)
            grad_a = softening.pull(a, p * (excess - mean) * scale)
        if ctx.needs_input_grad[1]:
            grad_b = softening.pull(b, (log_q.exp() - p) * scale)
        if hidden is not None:
            grad_a = None if grad_a is None else _unhidden(grad_a, hidden, softening)
            grad_b = None if grad_b is None else _unhidden(grad_b, hidden, softening)
        return grad_a, grad_b, None, None


def _unhidden(grad: Tensor, hidden: Tensor, softening: Softening) -> Tensor:
    return torch.where(hidden.unsqueeze(softening.axis), 0, grad)
