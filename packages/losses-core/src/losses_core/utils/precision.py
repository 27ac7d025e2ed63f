"""Losses are computed in at least float32, outside autocast: what casts the inputs, and what switches it off."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from losses_core.errors import InputError

_P = ParamSpec("_P")
_R = TypeVar("_R")
_HALF = (torch.float16, torch.bfloat16)


def map_tensors(function: Callable[[Tensor], Tensor], inputs: Any) -> Any:
    """Apply ``function`` to a tensor, or to each tensor of a (nested) tuple, list or mapping; leave the rest alone."""
    if isinstance(inputs, Tensor):
        return function(inputs)
    if isinstance(inputs, (list, tuple)):
        mapped = [map_tensors(function, item) for item in inputs]
        if hasattr(inputs, "_fields"):  # a named tuple
            return type(inputs)(*mapped)
        return tuple(mapped) if isinstance(inputs, tuple) else mapped
    if isinstance(inputs, dict):
        return {key: map_tensors(function, item) for key, item in inputs.items()}
    return inputs


def first_tensor(inputs: Any) -> Tensor | None:
    """The first tensor of a (nested) tuple, list or mapping, or None."""
    if isinstance(inputs, Tensor):
        return inputs
    if isinstance(inputs, dict):
        inputs = list(inputs.values())
    if isinstance(inputs, (list, tuple)):
        for item in inputs:
            found = first_tensor(item)
            if found is not None:
                return found
    return None


def upcast(inputs: Any) -> Any:
    """Cast fp16 and bf16 tensors, also inside tuples, to float32; leave everything else as it is."""
    if isinstance(inputs, Tensor):  # the usual case, without a detour
        return _upcast_tensor(inputs)
    return map_tensors(_upcast_tensor, inputs)


def _upcast_tensor(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in _HALF else tensor


def match_dtype(inputs: Any, dtype: torch.dtype) -> Any:
    """Cast floating tensors, also inside tuples, to ``dtype``; integer and bool ones stay."""
    if isinstance(inputs, Tensor) and inputs.dtype == dtype:
        return inputs
    return map_tensors(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor, inputs)


def autocast_active(tensor: Tensor) -> bool:
    """Whether autocast is on for the device of a tensor."""
    if tensor.is_cpu:  # the usual case, without a detour
        return torch.is_autocast_enabled("cpu")
    # meta tensors have no autocast at all: asking for it raises
    device_type = tensor.device.type
    return torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)


def without_autocast(device_type: str) -> contextlib.AbstractContextManager[Any]:
    """A context in which autocast is off."""
    return torch.autocast(device_type, enabled=False)


def full_precision(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Run a public function in at least float32 and outside autocast, and name it in the errors it raises.

    Example:
        >>> import torch
        >>> @full_precision
        ... def square(x):
        ...     return x * x
        >>> square(torch.tensor(300.0, dtype=torch.float16))
        tensor(90000.)
    """

    @functools.wraps(function)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        args, kwargs = upcast(args), upcast(kwargs)
        tensor = first_tensor(args)
        try:
            if tensor is None or not autocast_active(tensor):
                return function(*args, **kwargs)
            with without_autocast(tensor.device.type):
                return function(*args, **kwargs)
        except InputError as error:
            error.where = error.where or function.__name__
            raise

    return wrapper
