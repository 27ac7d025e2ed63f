"""What `BaseLoss` makes of a class and its parameters: its name in logs, plain values, a code object of its own."""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from losses_core._names import snake_case as snake_case


def own_code(function: Any) -> Any:
    """A copy of a function with a code object of its own."""
    copy = types.FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return functools.update_wrapper(copy, function)


def plain(value: Any) -> Any:
    """Tensors as lists, also inside mappings and sequences."""
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
