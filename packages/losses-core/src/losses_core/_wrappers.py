"""What wraps a loss: `ChunkedLoss` and `LayeredLoss`, by the names that a config gives them."""

from __future__ import annotations

import importlib
from typing import Any

from torch import nn

WRAPPERS = {"ChunkedLoss": "losses_core.chunked", "LayeredLoss": "losses_core.layered"}
"""Class → its module, which needs all that reads configs."""


class Wrapper(nn.Module):
    """A module around one loss, which stands where that loss would stand."""

    label: str
    loss_name: str
    loss_weight: Any
    """A number; or a tensor, which may be learned."""

    def step(self, position: float | None = None) -> None:
        """Go on in the schedules of the loss inside, if it has any."""
        inside: Any = self.loss
        inside.step(position)

    def to_config(self) -> dict[str, Any]:
        """The config from which `build_loss` builds this loss again."""
        raise NotImplementedError


def wrapper_class(name: str) -> type[Wrapper]:
    """The class with that name."""
    found: type[Wrapper] = getattr(importlib.import_module(WRAPPERS[name]), name)
    return found


def as_loss(loss: Any) -> Any:
    """A loss as it is, or built from its config."""
    from losses_core.builder import build_loss

    return loss if isinstance(loss, nn.Module) else build_loss(loss)
