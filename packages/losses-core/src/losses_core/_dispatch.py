"""Which implementation of a definition runs: one rule, `why_definition`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from losses_core import _fused, _two_passes
from losses_core._definitions import Kernel, LossCall
from losses_core._job import HALF, weighs_rows
from losses_core.utils.precision import match_dtype, upcast
from losses_core.utils.torch_compat import is_exporting, transforms_active
from losses_core.utils.weight_reduce import Unreduced

_PLAIN = (Tensor, torch.nn.Parameter)

SMALL = 1 << 14
"""Elements of an input on the CPU up to which torch's own operator has its mean faster than a kernel."""

SMALL_ON_DEVICE = 1 << 24
"""The same on an accelerator."""


class _Forced:
    """What runs everywhere in this process, so that a compiler can guard on it: definitions, or kernels."""

    definitions = bool(os.environ.get("LOSSES_USE_DEFINITIONS"))
    kernels = False


@contextlib.contextmanager
def use_definitions() -> Iterator[None]:
    """Run definitions instead of kernels inside the context, in every thread.

    The environment variable ``LOSSES_USE_DEFINITIONS=1`` does the same for a process.

    Example:
        >>> with use_definitions():
        ...     pass
    """
    before = _Forced.definitions
    _Forced.definitions = True
    try:
        yield
    finally:
        _Forced.definitions = before


@contextlib.contextmanager
def kernels_for_small_inputs() -> Iterator[None]:
    """Run kernels for small inputs as well, where torch's own operator would give the mean: for checks of kernels."""
    before = _Forced.kernels
    _Forced.kernels = True
    try:
        yield
    finally:
        _Forced.kernels = before


def why_definition(call: LossCall, weight: Tensor | None, *, reduced: bool) -> str:
    """The reason why a definition runs and no kernel does; empty where a kernel may run."""
    declared, pred = call.definition, call.pred
    if not declared.kernels:
        return "it has no kernel"
    if _Forced.definitions:
        return "use_definitions() is active"
    if type(pred) not in _PLAIN:
        return "pred is not a plain tensor"
    if torch.compiler.is_compiling():
        if is_exporting():
            return "the loss is being exported"
    elif transforms_active():
        return "a torch.func transform is active"
    for tensor in _tensors(call.target, call.options):
        if tensor.requires_grad:
            return "the target or an option requires a gradient"
        if type(tensor) not in _PLAIN:
            return "the target or an option is not a plain tensor"
    if weight is not None and weight.requires_grad:
        return "the weight requires a gradient"
    if declared.layout == "batch" and (not reduced or (weight is not None and weight.ndim > 1)):
        return "its gradient is known for the sum of a sample only"
    if declared.layout == "whole" and (not reduced or weight is not None):
        return "its gradient is known for the sum of all elements only"
    return ""


def select(call: LossCall, weight: Tensor | None, *, reduced: bool) -> tuple[Kernel | None, str]:
    """Choose the kernel that runs, or None for the definition, with the reason."""
    two_passes = len(call.definition.kernels) > 0 and call.definition.kernels[-1].passes == 2
    reason = why_definition(call, weight, reduced=reduced or two_passes)
    chosen = None
    if not reason:
        reason = "no kernel supports these inputs"
        for candidate in reversed(call.definition.kernels):
            if not candidate.fits(call.pred):
                continue
            if candidate.layout is not None and not (reduced and weighs_rows(candidate.layout, weight, call.pred)):
                continue
            if candidate.supports is None or candidate.supports(call.pred, call.target, **call.options):
                chosen, reason = candidate, ""
                break
    if _Record.choices is not None:
        _Record.choices.append(f"{call.definition.name}: {f'definition, as {reason}' if reason else chosen.name}")  # type: ignore[union-attr]
    return chosen, reason


def _tensors(target: Any, options: Mapping[str, Any]) -> Iterator[Tensor]:
    for item in (*(target if isinstance(target, (list, tuple)) else (target,)), *options.values()):
        if isinstance(item, Tensor):
            yield item


def unreduced(call: LossCall) -> Any:
    """The unreduced loss, by a kernel where one may run."""
    chosen, _ = select(call, None, reduced=False)
    if chosen is None:
        value = call.body()
    elif chosen.passes == 2:
        return _two_passes.two_passes(call, chosen)
    else:
        value = _fused.elements(call, chosen)
    if call.definition.normalizer is None or isinstance(value, Unreduced):
        return value
    return Unreduced(value, call.normalizer())


def small_mean(call: LossCall) -> Tensor | None:
    """The mean of a small input by torch's own operator; None where there is none, or a kernel is faster."""
    mean, pred = call.definition.mean, call.pred
    if mean is None or torch.compiler.is_compiling() or not pred.numel():
        return None
    if pred.numel() > (SMALL if pred.is_cpu else SMALL_ON_DEVICE) and (pred.is_cpu or not call.definition.large_mean):
        return None
    if _Forced.definitions or _Forced.kernels:
        return None
    target, options = call.target, call.options
    if pred.dtype in HALF:
        if pred.numel() > SMALL_ON_DEVICE:  # the copies in float32 would be what fills the memory
            return None
        pred = pred.float()
        target, options = (match_dtype(upcast(part), pred.dtype) for part in (target, options))
    value = mean(pred, target, **options)
    if value is not None and _Record.choices is not None:
        _Record.choices.append(f"{call.definition.name}: torch's own operator, as the input is small")
    return value


class _Record:
    """What `select` has chosen, while `explain` runs."""

    choices: list[str] | None = None


def explain(loss: Callable[..., Any], pred: Any, target: Any, **keywords: Any) -> str:
    """Say which implementation of each definition a call runs, and why; the loss is computed once.

    Args:
        loss: a loss, or a function such as ``losses_det.functional.giou_loss``.
        pred: as for the loss.
        target: as for the loss.
        **keywords: as for the loss.

    Returns:
        A line for each definition that was reached.
    """
    before, _Record.choices = _Record.choices, []
    try:
        loss(pred, target, **keywords)
        return "\n".join(_Record.choices) or "no definition of losses_core.kernels is reached"
    finally:
        _Record.choices = before
