"""A kernel and the arguments of one call: the block loop, with precision and weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from losses_core._blocks import (
    Layout,
    Part,
    as_rows,
    block_size,
    classes_last,
    merge_rows,
    new_like,
    split,
    value_shape,
)
from losses_core._definitions import Definition, Kernel

HALF = (torch.float16, torch.bfloat16)


@dataclasses.dataclass(slots=True, eq=False)
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
        for i, name in enumerate(self.row_names, first):
            options[name] = tensors[i]
        for i, name in enumerate(self.whole_names, self.cut):
            options[name] = tensors[i]
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

    def run(self, pred: Tensor, tensors: Sequence[Tensor], needs_grad: bool) -> tuple[Tensor, Tensor | None]:
        """Compute the loss, its sum times the factor unless ``elements``, and the gradient that is kept."""
        precision = torch.float32 if pred.dtype in HALF else pred.dtype
        cut, whole = list(tensors[: self.cut]), [cast(t, precision) for t in tensors[self.cut :]]
        if torch.compiler.is_compiling() or self.layout == "whole" or pred.ndim == 0:
            size = None  # a size that were compared would be compiled into the code
        else:
            size = block_size(pred, self.kernel.temporaries, self.kernel.large_blocks)
        if size is None or pred.numel() <= size:
            value, grad = self._run_at_once(pred, cut, whole, needs_grad, precision)
        else:
            value, grad = self._run_blocks(pred, cut, whole, needs_grad, precision, size)
        if self.elements:
            return value, grad
        factor = self.factor_of(tensors)
        if self._is_mean(value, factor):
            return value.mean(), grad
        value = value.sum() if value.ndim else value
        return (value if isinstance(factor, float) and factor == 1.0 else value * factor), grad

    @staticmethod
    def _is_mean(value: Tensor, factor: float | Tensor) -> bool:
        """Whether the sum times the factor is the mean, one operator instead of two."""
        if torch.compiler.is_compiling() or isinstance(factor, Tensor):
            return False
        return value.ndim > 0 and value.numel() > 0 and factor == 1 / value.numel()

    def _run_at_once(
        self, pred: Tensor, cut: list[Any], whole: list[Any], needs_grad: bool, precision: torch.dtype
    ) -> tuple[Tensor, Tensor | None]:
        merged = classes_last(self.layout, pred)
        x, others = (pred, cut) if self.layout == "elements" else self._rows(pred, cut, merged)
        value, grad = self._block(x, others, whole, needs_grad, precision)
        if grad is not None:
            scale = self._kept_scale()
            if scale != 1.0:
                grad = grad.mul_(scale)
            if grad.dtype != self.kept_dtype:
                grad = grad.to(self.kept_dtype)
            if merged:
                grad = grad.view(pred.movedim(1, -1).shape).movedim(-1, 1)
            elif grad.shape != pred.shape:
                grad = grad.reshape(pred.shape)
        if not self.elements:
            return value, grad
        shape = value_shape(self.layout, pred)
        return (value if shape is None else value.reshape(shape)), grad

    def _run_blocks(
        self, pred: Tensor, cut: list[Any], whole: list[Any], needs_grad: bool, precision: torch.dtype, size: int
    ) -> tuple[Tensor, Tensor | None]:
        kept = new_like(pred, self.layout, self.kept_dtype) if needs_grad else None
        shape = value_shape(self.layout, pred) or [pred.shape[0]]
        values = torch.empty(shape, dtype=precision, device=pred.device) if self.elements else None
        rows, others = self._rows(pred, [*cut, kept, values], classes_last(self.layout, pred))
        sums, scale = [], self._kept_scale()
        for x, parts in split(self.layout, rows, others, size):
            *parts, kept_part, value_part = parts  # the last two are written
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
            del value, grad  # not alive beside those of the next block
        if values is not None:
            return values, kept
        return (torch.stack(sums).sum() if sums else pred.new_zeros((), dtype=precision)), kept

    def _rows(self, pred: Tensor, others: Sequence[Any], merged: bool) -> Part:
        return merge_rows(pred, others) if merged else as_rows(self.layout, pred, others)

    def _block(
        self, x: Tensor, others: Sequence[Any], whole: Sequence[Any], needs_grad: bool, precision: torch.dtype
    ) -> tuple[Tensor, Tensor | None]:
        target, options, weight = self.arguments([*(self.cast_rows(t, x, precision) for t in others), *whole])
        if self.definition.cast and self.kernel.cast and x.dtype != precision:
            x = x.to(precision)
        value, grad = self.kernel.function(x, target, needs_grad=needs_grad, **options)
        if weight is not None:
            value = (value * weight).masked_fill(weight == 0, 0)
            if grad is not None:
                weight = self.on_pred(weight, grad.ndim)
                grad = (grad * weight).masked_fill(weight == 0, 0)  # 0 · NaN is NaN
        return value, grad

    def cast_rows(self, tensor: Any, x: Tensor, precision: torch.dtype) -> Any:
        """Floating tensors, and targets of the elements, in the precision of the loss; labels as int64."""
        if tensor.dtype == precision or not self.kernel.cast:
            return tensor
        if tensor.dtype.is_floating_point or (self.layout in ("elements", "channels") and tensor.ndim == x.ndim):
            return tensor.to(precision)
        return tensor.long() if tensor.ndim < x.ndim and tensor.dtype != torch.bool else tensor

    def _kept_scale(self) -> float:
        """What the gradient is multiplied by before it is kept."""
        return self.grad_scale * self.factor if self.fold and self.factor is not None else self.grad_scale


def cast(tensor: Any, precision: torch.dtype) -> Any:
    """A floating tensor in the precision of the loss; anything else as it is."""
    return tensor.to(precision) if isinstance(tensor, Tensor) and tensor.dtype.is_floating_point else tensor


def weighs_rows(layout: Layout, weight: Tensor | None, pred: Tensor) -> bool:
    """Whether a weight of the elements of pred, or of a prefix of its axes, is the same for all elements of a row."""
    axis = 1 if layout == "classes" else pred.ndim - 1
    return weight is None or weight.ndim <= axis or weight.shape[axis] == 1 or weight.stride(axis) == 0
