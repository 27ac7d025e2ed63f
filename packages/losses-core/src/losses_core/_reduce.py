"""From a definition and its arguments to a reduced loss, by the kernel or by the definition itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from losses_core import _fused
from losses_core._blocks import value_shape
from losses_core._definitions import Kernel, LossCall
from losses_core._dispatch import select, small_mean
from losses_core.utils.weight_reduce import (
    Group,
    Reduction,
    Unreduced,
    apply_weight,
    given_denominator,
    partial_reduce,
    positive,
)


def reduce_call(
    call: LossCall,
    weight: Tensor | None,
    reduction: str,
    avg_factor: float | Tensor | None,
    scale: float,
    group: Group | None,
    mask: Callable[[Any, Tensor], Any],
) -> Reduction:
    """Weight and reduce a loss, up to what needs other ranks.

    Args:
        call: what to compute.
        weight: sample weights of the shape of the loss or of a prefix of it.
        reduction: ``none``, ``mean``, ``sum`` or ``batchmean``.
        avg_factor: replaces the denominator of the mean.
        scale: multiplies the result.
        group: the ranks to normalise over; None: this one alone.
        mask: gives pred with a gradient of zero where the weight is zero.
    """
    if reduction == "mean" and weight is None and avg_factor is None and group is None:
        mean = small_mean(call)
        if mean is not None:
            return Reduction(mean, None, reduction, None, scale)
    kernel, _ = select(call, weight, reduced=reduction != "none")
    if kernel is None or kernel.passes == 2:
        return _by_definition(call, weight, reduction, avg_factor, scale, group, mask)
    if reduction == "none":
        return Reduction(_fused.elements(call, kernel, weight), None, reduction, None, scale)
    denominator = given_denominator(reduction, avg_factor)
    if denominator is None and reduction != "sum":
        denominator = call.pred.shape[0] if reduction == "batchmean" else total_normalizer(call)
    return _by_kernel(call, kernel, weight, reduction, denominator, scale, group)


def _by_kernel(
    call: LossCall,
    kernel: Kernel,
    weight: Tensor | None,
    reduction: str,
    denominator: float | Tensor | None,
    scale: float,
    group: Group | None,
) -> Reduction:
    pred = call.pred
    precision = torch.float64 if pred.dtype == torch.float64 else torch.float32
    if isinstance(denominator, Tensor) and (denominator.is_floating_point() or torch.compiler.is_compiling()):
        denominator = denominator.to(precision)
    if group is not None or (isinstance(denominator, Tensor) and denominator.requires_grad):
        return Reduction(_fused.reduced(call, kernel, weight, 1.0), denominator, reduction, group, scale)
    if torch.compiler.is_compiling():  # a factor in a tensor, so that none of its values is compiled into the code
        if denominator is None:
            return Reduction(_fused.reduced(call, kernel, weight, 1.0), None, reduction, None, scale)
        if not isinstance(denominator, Tensor):
            denominator = torch.full((), denominator, dtype=precision, device=pred.device)
        factor: float | Tensor = torch.where(denominator <= 0, 1, denominator).reciprocal()
        return Reduction(_fused.reduced(call, kernel, weight, factor), None, reduction, None, scale)
    if isinstance(denominator, Tensor) and denominator.is_cpu and pred.is_cpu:
        denominator = denominator.item()  # on the CPU there is nothing to wait for
    if isinstance(denominator, Tensor):
        value = _fused.reduced(call, kernel, weight, 1.0)
        return Reduction(value / positive(denominator.to(pred.device)), None, reduction, None, scale)
    factor = scale if denominator is None or denominator <= 0 else scale / denominator
    return Reduction(_fused.reduced(call, kernel, weight, factor), None, reduction)


def total_normalizer(call: LossCall) -> float | Tensor:
    """Σ of the normalizer: the denominator of ``mean``."""
    if call.definition.denominator is not None:
        return call.definition.denominator(call.pred, call.target, **call.options)
    normalizer, shape = call.normalizer(), value_shape(call.definition.layout, call.pred)
    if normalizer is None:
        if shape is None:
            return call.pred.shape[0] if call.definition.layout == "batch" and call.pred.ndim else 1
        return math.prod(shape)
    if torch.compiler.is_compiling() and not normalizer.is_floating_point():
        # a compiler adds whole numbers in a loop of their own, and stores the mask that it reads
        normalizer = normalizer.to(torch.float64 if call.pred.dtype == torch.float64 else torch.float32)
    total = normalizer.sum()
    for size in (shape or [])[normalizer.ndim :]:
        total = total * size
    return total


def _by_definition(
    call: LossCall,
    weight: Tensor | None,
    reduction: str,
    avg_factor: float | Tensor | None,
    scale: float,
    group: Group | None,
    mask: Callable[[Any, Tensor], Any],
) -> Reduction:
    result = call.body(None if weight is None else lambda pred: mask(pred, weight))
    result = result if isinstance(result, Unreduced) else Unreduced(result, call.normalizer())
    value, normalizer, already_global = result
    if weight is not None:
        value = apply_weight(value, weight)
    plain = reduction == "mean" and normalizer is None and avg_factor is None and (group is None or already_global)
    if plain and not torch.compiler.is_compiling() and value.numel():
        return Reduction(value.mean() if value.ndim else value, None, reduction, None, scale)
    numerator, denominator, reduction, *_ = partial_reduce(value, normalizer, reduction, avg_factor)
    return Reduction(numerator, denominator, reduction, None if already_global else group, scale)
