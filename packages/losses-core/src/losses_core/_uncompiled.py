"""What a compiler leaves alone. Imported while it traces only, as torch's decorator imports the compiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


@torch.compiler.disable  # type: ignore[untyped-decorator]  # torch does not type it
def run(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function outside the graph."""
    return function(*args)
