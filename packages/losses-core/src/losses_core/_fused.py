"""Run a kernel: the block loop, precision, weights, and the autograd Functions that carry its gradient."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from losses_core._blocks import Layout, as_rows, block_size, new_like, split, value_shape
from losses_core.utils.autograd import hide_gradient, is_batched
from losses_core.utils.weight_reduce import align, apply_weight, weight_error

if TYPE_CHECKING:
    from losses_core.kernels import Definition, Kernel, LossCall

HALF = (torch.float16, torch.bfloat16)
_LARGEST_KEPT = 2.0**14
"""Where a bound of a gradient is moved to in fp16, which ends at 65504 and loses precision below 6e-5."""


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """A kernel and the arguments of one call, apart from its tensors.

    The tensors travel in a flat list, as an autograd Function takes them: those that are cut with the rows of pred
    (target, row options, weight), then the others (options, a factor).
    """

    definition: Definition
    kernel: Kernel
    constants: dict[str, Any]
    targets: int | None
    row_names: tuple[str, ...]
    weighted: bool
    whole_names: tuple[str, ...]
    elements: bool
    factor: float | None
    fold: bool
    grad_scale: float
    kept_dtype: torch.dtype

    @property
    def layout(self) -> Layout:
        """The rows of the kernel."""
        return self.kernel.layout or self.definition.layout

    @property
    def cut(self) -> int:
        """Number of the tensors that are cut with the rows."""
        return (1 if self.targets is None else self.targets) + len(self.row_names) + self.weighted

    def arguments(self, tensors: Sequence[Any]) -> tuple[Any, dict[str, Any], Tensor | None]:
        """Target, options and weight from the flat list."""
        first = 1 if self.targets is None else self.targets
        target = tensors[0] if self.targets is None else tuple(tensors[:first])
        options = dict(self.constants)
        options.update(zip(self.row_names, tensors[first:], strict=False))
        options.update(zip(self.whole_names, tensors[self.cut :], strict=False))
        return target, options, tensors[self.cut - 1] if self.weighted else None

    def factor_of(self, tensors: Sequence[Any]) -> float | Tensor:
        """What multiplies the sum: a number, or a 0-d tensor that comes last."""
        return tensors[-1] if self.factor is None else self.factor

    def on_pred(self, per_loss: Tensor, ndim: int) -> Tensor:
        """View a tensor of the unreduced loss so that it broadcasts over pred."""
        if self.layout == "classes":
            return per_loss.unsqueeze(1)
        if self.layout == "last":
            return per_loss.unsqueeze(-1)
        return per_loss.reshape(per_loss.shape + (1,) * (ndim - per_loss.ndim))

    # ------------------------------------------------------------------------------------------------------- the loop

    def run(self, pred: Tensor, tensors: Sequence[Tensor], needs_grad: bool) -> tuple[Tensor, Tensor | None]:
        """Compute the loss, its sum times the factor unless ``elements``, and the gradient that is kept."""
        precision = torch.float32 if pred.dtype in HALF else pred.dtype
        cut, whole = list(tensors[: self.cut]), [cast(t, precision) for t in tensors[self.cut :]]
        size = block_size(pred)
        if self.layout == "whole" or pred.numel() <= size or pred.ndim == 0 or torch.compiler.is_compiling():
            value, grad = self._run_at_once(pred, cut, whole, needs_grad, precision)
        else:
            value, grad = self._run_blocks(pred, cut, whole, needs_grad, precision, size)
        if self.elements:
            return value, grad
        factor = self.factor_of(tensors)
        return (value if isinstance(factor, float) and factor == 1.0 else value * factor), grad

    def _run_at_once(
        self, pred: Tensor, cut: list[Any], whole: list[Any], needs_grad: bool, precision: torch.dtype
    ) -> tuple[Tensor, Tensor | None]:
        x, others = (pred, cut) if self.layout == "elements" else as_rows(self.layout, pred, cut)
        value, grad = self._block(x, others, whole, needs_grad, precision)
        if grad is not None:
            scale = self._kept_scale()
            if scale != 1.0:
                grad = grad * scale if torch.compiler.is_compiling() else grad.mul_(scale)
            grad = grad.to(self.kept_dtype).reshape(pred.shape)
        if not self.elements:
            return value.sum(), grad
        shape = value_shape(self.layout, pred)
        return (value if shape is None else value.reshape(shape)), grad

    def _run_blocks(
        self, pred: Tensor, cut: list[Any], whole: list[Any], needs_grad: bool, precision: torch.dtype, size: int
    ) -> tuple[Tensor, Tensor | None]:
        kept = new_like(pred, self.layout, self.kept_dtype) if needs_grad else None
        shape = value_shape(self.layout, pred) or [pred.shape[0]]
        values = torch.empty(shape, dtype=precision, device=pred.device) if self.elements else None
        rows, others = as_rows(self.layout, pred, [*cut, kept, values])
        sums, scale = [], self._kept_scale()
        for x, parts in split(self.layout, rows, others, size):
            *parts, kept_part, value_part = parts  # noqa: PLW2901  # the last two are written
            value, grad = self._block(x, parts, whole, needs_grad, precision)
            if value_part is None:
                sums.append(value.sum())
            else:
                value_part.copy_(value)
            if kept_part is not None and grad is not None:
                if scale == 1.0:
                    kept_part.copy_(grad)
                else:
                    torch.mul(grad, scale, out=kept_part)
        if values is not None:
            return values, kept
        return (torch.stack(sums).sum() if sums else pred.new_zeros((), dtype=precision)), kept

    def _block(
        self, x: Tensor, others: Sequence[Any], whole: Sequence[Any], needs_grad: bool, precision: torch.dtype
    ) -> tuple[Tensor, Tensor | None]:
        target, options, weight = self.arguments([*(self.cast_rows(t, x, precision) for t in others), *whole])
        value, grad = self.kernel.function(x.to(precision), target, needs_grad=needs_grad, **options)
        if weight is not None:
            value = (value * weight).masked_fill(weight == 0, 0)
            if grad is not None:
                weight = self.on_pred(weight, grad.ndim)
                grad = (grad * weight).masked_fill(weight == 0, 0)  # 0 · NaN is NaN
        return value, grad

    def cast_rows(self, tensor: Any, x: Tensor, precision: torch.dtype) -> Any:
        """Floating tensors, and targets of the elements, in the precision of the loss; labels as int64."""
        if tensor.is_floating_point() or (self.layout in ("elements", "channels") and tensor.ndim == x.ndim):
            return tensor.to(precision)
        return tensor.long() if tensor.ndim < x.ndim and tensor.dtype != torch.bool else tensor

    def _kept_scale(self) -> float:
        """What the gradient is multiplied with before it is kept."""
        return self.grad_scale * self.factor if self.fold and self.factor is not None else self.grad_scale

    # ---------------------------------------------------------------------------------------------------- the backward

    def scaled(self, pred: Tensor, tensors: Sequence[Tensor], kept: Tensor, grad_output: Tensor) -> Tensor:
        """The kept gradient times the incoming one; in place, where that is allowed."""
        incoming = self._incoming(tensors, grad_output)
        if self.elements:
            incoming = self.on_pred(incoming, pred.ndim)
        if torch.compiler.is_compiling() or is_batched(grad_output):
            return (kept * incoming).to(pred.dtype)
        if self.fold and grad_output.item() == 1:  # the usual end of a graph; on the CPU looking costs nothing
            return kept.to(pred.dtype)
        if kept.dtype not in HALF and kept.dtype == pred.dtype:
            return kept.mul_(incoming)
        # in float32: a bf16 or fp16 factor would be rounded, or overflow
        result = kept if kept.dtype == pred.dtype else torch.empty_like(kept, dtype=pred.dtype)
        if not self.elements:
            incoming = incoming.reshape(1)
        if pred.ndim == 0 or self.elements or self.layout == "whole":
            return torch.mul(kept, incoming, out=result)
        rows, (out,) = as_rows(self.layout, kept, [result])
        for part, (out_part,) in split(self.layout, rows, [out], block_size(pred)):
            torch.mul(part, incoming, out=out_part)
        return result

    def _incoming(self, tensors: Sequence[Tensor], grad_output: Tensor) -> Tensor:
        if not self.elements and not self.fold:
            grad_output = grad_output * self.factor_of(tensors)
        return grad_output if self.grad_scale == 1.0 else grad_output / self.grad_scale

    def differentiable_grad(self, pred: Tensor, tensors: Sequence[Tensor], grad_output: Tensor) -> Tensor:
        """The gradient as a function of pred and the incoming one, through the definition."""
        from losses_core.kernels import LossCall

        target, options, weight = self.arguments(tensors)

        def mask(x: Tensor) -> Tensor:
            return x if weight is None else hide_gradient(x, self.on_pred(weight == 0, x.ndim))

        with torch.enable_grad():
            value = LossCall(self.definition, pred, target, options).body(mask)
            if weight is not None:
                weight = weight if weight.ndim == value.ndim else self.on_pred(weight, value.ndim)
                value = apply_weight(value, weight.expand_as(value))
            if not self.elements:
                value = value.sum() * self.factor_of(tensors)
            (gradient,) = torch.autograd.grad(value, pred, grad_output, create_graph=True)
        return gradient


def cast(tensor: Any, precision: torch.dtype) -> Any:
    return tensor.to(precision) if isinstance(tensor, Tensor) and tensor.is_floating_point() else tensor


class _FusedLoss(torch.autograd.Function):
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
            return None, job.differentiable_grad(pred, tensors, grad_output), *nones
        kept, ctx.kept = ctx.kept, None
        if kept is None:  # the graph was kept, and this is not its first backward
            _, kept = job.run(pred, tensors, needs_grad=True)
        return None, job.scaled(pred, tensors, kept, grad_output), *nones


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
        return None, ctx.job.scaled(pred, tensors, kept, grad_output), *(None,) * ctx.number


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
    return carrier.apply(job, pred, *tensors)  # type: ignore[no-any-return, no-untyped-call]


def pack(
    call: LossCall, kernel: Kernel, weight: Tensor | None = None, factor: float | Tensor | None = None
) -> tuple[Job, list[Tensor]]:
    """Take the arguments of a call apart: its tensors, and all else."""
    declared, pred = call.definition, call.pred
    several = isinstance(call.target, list | tuple)
    tensors = list(call.target) if several else [call.target]
    row_names, whole_names, whole, constants = [], [], [], {}
    for name, option in call.options.items():
        if not isinstance(option, Tensor):
            constants[name] = option
        elif name in declared.rows:
            row_names.append(name)
            tensors.append(option)
        else:
            whole_names.append(name)
            whole.append(option)
    if weight is not None:
        tensors.append(_aligned(kernel.layout or declared.layout, _of_rows(kernel.layout, weight, pred), pred))
    if isinstance(factor, Tensor):
        whole.append(factor)
    scale, kept_dtype = _kept(pred, kernel, weight, call.options)
    job = Job(
        definition=declared,
        kernel=kernel,
        constants=constants,
        targets=len(call.target) if several else None,
        row_names=tuple(row_names),
        weighted=weight is not None,
        whole_names=tuple(whole_names),
        elements=factor is None,
        factor=None if factor is None or isinstance(factor, Tensor) else float(factor),
        fold=isinstance(factor, float) and pred.is_cpu and scale == 1.0 and not torch.compiler.is_compiling(),
        grad_scale=scale,
        kept_dtype=kept_dtype,
    )
    return job, tensors + whole


def _kept(pred: Tensor, kernel: Kernel, weight: Tensor | None, options: dict[str, Any]) -> tuple[float, torch.dtype]:
    """The scale and the dtype in which a gradient is kept: in fp16 a small one must not underflow."""
    if pred.dtype != torch.float16:
        return 1.0, pred.dtype
    bound = kernel.bound(**options) if callable(kernel.bound) else kernel.bound
    if bound is None or weight is not None:
        return 1.0, torch.float32
    return 2.0 ** math.floor(math.log2(_LARGEST_KEPT / bound)), torch.float16


def weighs_rows(layout: Layout, weight: Tensor | None, pred: Tensor) -> bool:
    """Whether a weight of the elements of pred, or of a prefix of its axes, is the same for all elements of a row."""
    axis = 1 if layout == "classes" else pred.ndim - 1
    return weight is None or weight.ndim <= axis or weight.shape[axis] == 1 or weight.stride(axis) == 0


def _of_rows(layout: Layout | None, weight: Tensor, pred: Tensor) -> Tensor:
    """The weight of each row, for a kernel that sums the elements of its rows."""
    axis = 1 if layout == "classes" else pred.ndim - 1
    return weight if layout is None or weight.ndim <= axis else weight.select(axis, 0)


def _aligned(layout: Layout, weight: Tensor, pred: Tensor) -> Tensor:
    """View a sample weight, of the shape of the loss or of a prefix of it, so that it can be cut with the rows."""
    shape = value_shape(layout, pred)
    if shape is None:
        if weight.shape != pred.shape[:1]:
            raise weight_error(list(pred.shape[:1]), weight)
        return weight
    aligned = align(weight, shape)
    if aligned is None:
        raise weight_error(shape, weight)
    expands = weight.ndim < len(shape) and (layout == "last" or (layout == "classes" and weight.ndim > 1))
    return aligned.expand(shape) if expands else aligned
