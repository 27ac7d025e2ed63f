"""Carry a one-pass kernel through autograd: its gradient is computed with the value and scaled in the backward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from losses_core._blocks import as_rows, block_size, split
from losses_core._definitions import Kernel, LossCall
from losses_core._job import HALF, Job
from losses_core._pack import pack
from losses_core.utils.autograd import ClassicFunction, is_batched, zero_grad_where
from losses_core.utils.weight_reduce import apply_weight


class _FusedLoss(ClassicFunction):
    """Carry a kernel: the gradient is computed with the value, and scaled in place by the first backward."""

    @staticmethod
    def forward(ctx: Any, job: Job, pred: Tensor, *tensors: Tensor) -> Tensor:
        value, ctx.kept = job.run(pred, tensors, needs_grad=True)
        ctx.job = job
        ctx.save_for_backward(pred, *tensors)
        return value

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Any, ...]:
        job, (pred, *tensors) = ctx.job, ctx.saved_tensors
        nones = (None,) * len(tensors)
        if torch.is_grad_enabled():
            return None, differentiable_grad(job, pred, tensors, grad_output), *nones
        kept, ctx.kept = ctx.kept, None
        if kept is None:  # the graph was kept, and this is not its first backward
            _, kept = job.run(pred, tensors, needs_grad=True)
        return None, _scaled(job, pred, tensors, kept, grad_output), *nones


class _TracedLoss(torch.autograd.Function):
    """Carry a kernel under ``torch.compile``: what is kept is saved as any tensor is."""

    @staticmethod
    def forward(ctx: Any, job: Job, pred: Tensor, *tensors: Tensor) -> Tensor:
        value, kept = job.run(pred, tensors, needs_grad=True)
        ctx.job, ctx.number = job, len(tensors)
        ctx.save_for_backward(kept, pred, *(tensors if job.factor is None else ()))
        return value

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Any, ...]:
        kept, pred, *tensors = ctx.saved_tensors
        return None, _scaled(ctx.job, pred, tensors, kept, grad_output), *(None,) * ctx.number


def elements(call: LossCall, kernel: Kernel, weight: Tensor | None = None) -> Tensor:
    """The unreduced loss, times the sample weights."""
    return _apply(call, kernel, weight, None)


def reduced(call: LossCall, kernel: Kernel, weight: Tensor | None, factor: float | Tensor) -> Tensor:
    """The sum of the loss times ``factor``, a number or a 0-d tensor without a gradient."""
    return _apply(call, kernel, weight, factor)


def _apply(call: LossCall, kernel: Kernel, weight: Tensor | None, factor: float | Tensor | None) -> Tensor:
    job, tensors = pack(call, kernel, weight, factor)
    pred = call.pred
    if not (pred.requires_grad and torch.is_grad_enabled()):
        return job.run(pred, tensors, needs_grad=False)[0]
    carrier = _TracedLoss if torch.compiler.is_compiling() else _FusedLoss
    return carrier.apply(job, pred, *tensors)  # type: ignore[no-any-return]


def _scaled(job: Job, pred: Tensor, tensors: Sequence[Tensor], kept: Tensor, grad_output: Tensor) -> Tensor:
    """The kept gradient times the incoming one; in place, where that is allowed."""
    if job.fold and not is_batched(grad_output) and grad_output.item() == 1:
        return kept.to(pred.dtype)  # the usual end of a graph; on the CPU, where alone folds are, looking is free
    incoming = _incoming(job, tensors, grad_output)
    if job.elements:
        incoming = job.on_pred(incoming, pred.ndim)
    if torch.compiler.is_compiling() or is_batched(grad_output):
        return (kept * incoming).to(pred.dtype)
    if kept.dtype not in HALF and kept.dtype == pred.dtype:
        return kept.mul_(incoming)
    if job.elements or pred.ndim == 0:
        return torch.mul(kept, incoming, out=kept).to(pred.dtype)
    if kept.dtype != pred.dtype:
        return _narrowed(kept, pred.dtype, incoming, block_size(pred, 1))
    # in float32: a bf16 or fp16 factor would be rounded, or overflow
    incoming, layout = incoming.reshape(1), job.layout if job.layout != "whole" else "elements"
    if not pred.is_cpu:  # an accelerator casts element by element, a CPU all of a tensor
        return torch.mul(kept, incoming, out=kept)
    rows, _ = as_rows(layout, kept, [])
    for part, _ in split(layout, rows, [], block_size(pred, 1)):
        torch.mul(part, incoming, out=part)
    return kept


def _narrowed(kept: Tensor, dtype: torch.dtype, incoming: Tensor, size: int) -> Tensor:
    """The product of a float32 gradient in fp16, in the first half of its memory: block by block, none is overtaken."""
    wide = kept.as_strided((kept.numel(),), (1,))
    narrow = wide.view(dtype)[: kept.numel()]
    for source, destination in zip(wide.split(size), narrow.split(size), strict=True):
        destination.copy_(source * incoming)
    return narrow.as_strided(kept.shape, kept.stride())


def _incoming(job: Job, tensors: Sequence[Tensor], grad_output: Tensor) -> Tensor:
    if not job.elements and not job.fold and job.factor != 1.0:
        grad_output = grad_output * job.factor_of(tensors)
    return grad_output if job.grad_scale == 1.0 else grad_output / job.grad_scale


def differentiable_grad(job: Job, pred: Tensor, tensors: Sequence[Tensor], grad_output: Tensor) -> Tensor:
    """The gradient as a function of pred and the incoming one, through the definition."""
    target, options, weight = job.arguments(tensors)

    def mask(x: Tensor) -> Tensor:
        return x if weight is None else zero_grad_where(x, job.on_pred(weight == 0, x.ndim))

    with torch.enable_grad():
        value = LossCall(job.definition, pred, target, options).body(mask)
        if weight is not None:
            weight = weight if weight.ndim == value.ndim else job.on_pred(weight, value.ndim)
            value = apply_weight(value, weight.expand_as(value))
        if not job.elements:
            value = value.sum() * job.factor_of(tensors)
        (gradient,) = torch.autograd.grad(value, pred, grad_output, create_graph=True)
    return gradient
