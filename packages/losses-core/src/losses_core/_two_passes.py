"""Run a two-pass kernel: sums over the rows of a sample in the forward, the gradient of pred in the backward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from losses_core._blocks import as_rows, block_size, new_like, sample_block_size, split
from losses_core._definitions import Kernel, LossCall
from losses_core._fused import differentiable_grad
from losses_core._job import HALF, Job, cast
from losses_core._pack import pack
from losses_core.utils.autograd import is_batched


def two_passes(call: LossCall, kernel: Kernel) -> Tensor:
    """The sums of each sample and class, (N,K,C), of a kernel with ``number`` K, ``forward`` and ``backward``.

    A kernel may have ``activate`` too: then both passes are given what it returns instead of ``x``, a tensor of its
    shape: ``out``, or where that is None a new one. It is kept where that takes no more memory than the gradient, which
    takes its place; so the second pass may write into it.
    """
    job, tensors = pack(call, kernel)
    if not (call.pred.requires_grad and torch.is_grad_enabled()):
        return _sums(job, call.pred, tensors, keep=False)[0]
    return _TwoPasses.apply(job, call.pred, *tensors)  # type: ignore[no-any-return, no-untyped-call]


class _TwoPasses(torch.autograd.Function):
    """Save pred and target; in half precision the backward computes the probabilities of a block once more."""

    @staticmethod
    def forward(ctx: Any, job: Job, pred: Tensor, *tensors: Tensor) -> Tensor:
        ctx.job = job
        ctx.save_for_backward(pred, *tensors)
        keep = hasattr(job.kernel.function, "activate") and pred.dtype not in HALF and not torch.compiler.is_compiling()
        sums, ctx.kept = _sums(job, pred, tensors, keep)
        return sums

    @staticmethod
    def backward(ctx: Any, grad_sums: Tensor) -> tuple[Any, ...]:
        job, (pred, *tensors) = ctx.job, ctx.saved_tensors
        nones = (None,) * len(tensors)
        if torch.is_grad_enabled() or (not torch.compiler.is_compiling() and is_batched(grad_sums)):
            return None, differentiable_grad(job, pred, tensors, grad_sums), *nones
        kept, ctx.kept = ctx.kept, None  # None in a second backward: the gradient has taken its place
        return None, _gradient(job, pred, tensors, grad_sums, kept), *nones


class _Passes:
    """The functions of a kernel with the arguments of a block."""

    def __init__(self, job: Job, pred: Tensor, tensors: Sequence[Any]) -> None:
        self.job, self.function = job, job.kernel.function
        self.precision = torch.float32 if pred.dtype in HALF else pred.dtype
        self.cut = list(tensors[: job.cut])
        self.whole = [cast(t, self.precision) for t in tensors[job.cut :]]
        temporaries = job.kernel.temporaries
        if hasattr(self.function, "activate") and pred.dtype not in HALF:
            temporaries /= 4  # there are no casts, and the gradient takes the place of what is kept
        if torch.compiler.is_compiling():
            self.size, self.at_once = 0, True  # a size that were compared would be compiled into the code
            return
        if hasattr(self.function, "activate"):
            self.size = sample_block_size(pred, temporaries)
        else:
            self.size = block_size(pred, temporaries, job.kernel.large_blocks)
        self.at_once = pred.numel() <= self.size

    def _arguments(self, x: Tensor, others: Sequence[Any]) -> tuple[Any, dict[str, Any]]:
        cut = [self.job.cast_rows(t, x, self.precision) for t in others]
        target, options, _ = self.job.arguments([*cut, *self.whole])
        return target, options

    def _activate(self, x: Tensor, target: Any, options: dict[str, Any], out: Tensor | None = None) -> Tensor:
        if self.job.definition.cast:
            x = x.to(self.precision)
        return self.function.activate(x, target, out=out, **options) if hasattr(self.function, "activate") else x

    def forward(self, x: Tensor, others: Sequence[Any], out: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The sums, and what they are made of, in ``out`` if given."""
        target, options = self._arguments(x, others)
        x = self._activate(x, target, options, out)
        return self.function.forward(x, target, **options), x

    def backward(self, x: Tensor, others: Sequence[Any], grads: Tensor, active: bool) -> Tensor:
        """The gradient; ``active``: x is what the kernel's ``activate`` has returned."""
        target, options = self._arguments(x, others)
        x = x if active else self._activate(x, target, options)
        return self.function.backward(x, target, grads, **options)  # type: ignore[no-any-return]


def _sums(job: Job, pred: Tensor, tensors: Sequence[Tensor], keep: bool) -> tuple[Tensor, Tensor | None]:
    passes = _Passes(job, pred, tensors)
    if passes.at_once:
        sums, active = passes.forward(*as_rows(job.layout, pred, passes.cut))
        return sums, active if keep else None
    number = job.kernel.function.number
    if callable(number):
        number = number(**job.constants)
    sums = torch.zeros(pred.shape[0], number, pred.shape[1], dtype=passes.precision, device=pred.device)
    kept = new_like(pred, job.layout, pred.dtype) if keep else None
    rows, others = as_rows(job.layout, pred, [*passes.cut, kept])
    for x, (*parts, kept_part, out) in split(job.layout, rows, [*others, sums.view(pred.shape[0], -1, 1)], passes.size):
        part, _ = passes.forward(x, parts, kept_part)
        out.add_(part.view(out.shape))  # type: ignore[union-attr]  # sums are there
    return sums, kept


def _gradient(job: Job, pred: Tensor, tensors: Sequence[Tensor], grad_sums: Tensor, kept: Tensor | None) -> Tensor:
    passes, active = _Passes(job, pred, tensors), kept is not None
    if passes.at_once:
        x, cut = as_rows(job.layout, pred, passes.cut)
        gradient = passes.backward(x if kept is None else kept, cut, grad_sums, active)
        return gradient.to(pred.dtype).reshape(pred.shape)
    gradient = new_like(pred, job.layout, pred.dtype) if kept is None else kept
    flat = grad_sums.reshape(pred.shape[0], -1, 1)
    rows, others = as_rows(job.layout, pred if kept is None else kept, [*passes.cut, gradient])
    for x, (*parts, out, grads) in split(job.layout, rows, [*others, flat], passes.size):
        grads = grads.reshape(-1, *grad_sums.shape[1:])  # type: ignore[union-attr]
        part = passes.backward(x, parts, grads, active)
        if part is not x:  # what was kept, and the gradient has taken its place
            out.copy_(part)  # type: ignore[union-attr]  # it is there
    return gradient
