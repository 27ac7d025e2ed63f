"""Run a two-pass kernel: sums over the rows of a sample in the forward, the gradient of pred in the backward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from losses_core._blocks import as_rows, block_size, new_like, split
from losses_core._fused import HALF, Job, cast, pack
from losses_core.utils.autograd import is_batched

if TYPE_CHECKING:
    from losses_core.kernels import Kernel, LossCall


def two_passes(call: LossCall, kernel: Kernel) -> Tensor:
    """The sums of each sample and class, (N,K,C), of a kernel with ``number`` K, ``forward`` and ``backward``."""
    job, tensors = pack(call, kernel)
    if not (call.pred.requires_grad and torch.is_grad_enabled()):
        return _sums(job, call.pred, tensors)
    return _TwoPasses.apply(job, call.pred, *tensors)  # type: ignore[no-any-return, no-untyped-call]


class _TwoPasses(torch.autograd.Function):
    """Save pred and target alone; the backward computes the probabilities of a block once more."""

    @staticmethod
    def forward(ctx: Any, job: Job, pred: Tensor, *tensors: Tensor) -> Tensor:
        ctx.job = job
        ctx.save_for_backward(pred, *tensors)
        return _sums(job, pred, tensors)

    @staticmethod
    def backward(ctx: Any, grad_sums: Tensor) -> tuple[Any, ...]:
        job, (pred, *tensors) = ctx.job, ctx.saved_tensors
        differentiable = torch.is_grad_enabled() or (not torch.compiler.is_compiling() and is_batched(grad_sums))
        gradient = job.differentiable_grad(pred, tensors, grad_sums) if differentiable else None
        if gradient is None:
            gradient = _gradient(job, pred, tensors, grad_sums)
        return None, gradient, *(None,) * len(tensors)


def _parts(job: Job, pred: Tensor, tensors: Sequence[Any]) -> tuple[list[Any], list[Any], torch.dtype]:
    precision = torch.float32 if pred.dtype in HALF else pred.dtype
    return list(tensors[: job.cut]), [cast(t, precision) for t in tensors[job.cut :]], precision


def _sums(job: Job, pred: Tensor, tensors: Sequence[Tensor]) -> Tensor:
    cut, whole, precision = _parts(job, pred, tensors)
    function, number = job.kernel.function, job.kernel.function.number
    size = (pred.shape[0], number, pred.shape[1])

    def forward(x: Tensor, others: Sequence[Any]) -> Tensor:
        target, options, _ = job.arguments([*(job.cast_rows(t, x, precision) for t in others), *whole])
        return function.forward(x.to(precision), target, **options)  # type: ignore[no-any-return]

    if torch.compiler.is_compiling() or pred.numel() <= block_size(pred):
        return forward(*as_rows(job.layout, pred, cut))
    sums = torch.zeros(size, dtype=precision, device=pred.device)
    rows, others = as_rows(job.layout, pred, cut)
    for x, (*parts, out) in split(job.layout, rows, [*others, sums.view(size[0], -1, 1)], block_size(pred)):
        out.add_(forward(x, parts).view_as(out))  # type: ignore[union-attr]  # sums are there
    return sums


def _gradient(job: Job, pred: Tensor, tensors: Sequence[Tensor], grad_sums: Tensor) -> Tensor:
    cut, whole, precision = _parts(job, pred, tensors)
    function = job.kernel.function

    def backward(x: Tensor, others: Sequence[Any], grads: Tensor) -> Tensor:
        target, options, _ = job.arguments([*(job.cast_rows(t, x, precision) for t in others), *whole])
        return function.backward(x.to(precision), target, grads, **options)  # type: ignore[no-any-return]

    if torch.compiler.is_compiling() or pred.numel() <= block_size(pred):
        return backward(*as_rows(job.layout, pred, cut), grad_sums).to(pred.dtype).reshape(pred.shape)
    gradient = new_like(pred, job.layout, pred.dtype)
    flat = grad_sums.reshape(pred.shape[0], -1, 1)
    rows, others = as_rows(job.layout, pred, [*cut, gradient])
    for x, (*parts, out, grads) in split(job.layout, rows, [*others, flat], block_size(pred)):
        grads = grads.reshape(-1, *grad_sums.shape[1:])  # type: ignore[union-attr]  # noqa: PLW2901
        out.copy_(backward(x, parts, grads))  # type: ignore[union-attr]  # it is there
    return gradient
