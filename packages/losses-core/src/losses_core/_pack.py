"""Take a call apart into a job and the flat list of tensors that an autograd Function takes."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from losses_core._blocks import Layout, value_shape
from losses_core._definitions import Kernel, LossCall
from losses_core._job import Job
from losses_core.utils.weight_reduce import align, weight_error

_LARGEST_KEPT = 2.0**14
"""Where a bound of a gradient is moved to in fp16, which ends at 65504 and loses precision below 6e-5."""


def pack(
    call: LossCall, kernel: Kernel, weight: Tensor | None = None, factor: float | Tensor | None = None
) -> tuple[Job, list[Tensor]]:
    """Take the arguments of a call apart: its tensors, and all else."""
    declared, pred = call.definition, call.pred
    several = isinstance(call.target, (list, tuple))
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
    flattened = {"last": 0, "classes": 1, "channels": 2}.get(layout, len(shape))  # the first of the axes that are
    expands = weight.ndim < len(shape) and (weight.ndim > flattened or weight.ndim == 0 or layout == "last")
    return aligned.expand(shape) if expands else aligned
