"""On the host the gradient is found together with the value, as one pass over the inputs serves both."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from losses_core.utils import host
from losses_core.utils.deferred import Deferred
from losses_core.utils.precision import without_autocast
from losses_core.utils.weight_reduce import Unreduced, total_normalizer

# torch's own; where a future torch lacks it, every graph counts as kept
_graph_is_kept = getattr(getattr(torch._C, "_autograd", None), "_get_current_graph_task_keep_graph", lambda: True)


@dataclasses.dataclass(frozen=True)
class Summed(Deferred):
    """A loss on the host whose sum has a shorter way than its elements.

    Attributes:
        x: predictions.
        elements: computes the elements, by the operations that are right on any device.
        times: computes a number times their sum.
        number: how many elements there are, where ``mask`` leaves none out.
        mask: where an element counts.
    """

    x: Tensor
    elements: Callable[[], Tensor]
    times: Callable[[float], Tensor]
    number: int
    mask: Tensor | None = None

    @property
    def summable(self) -> bool:
        return True

    def unreduced(self) -> Unreduced:
        return Unreduced(self.elements(), self.mask)

    def normalizer(self) -> float | Tensor:
        return self.number if self.mask is None else total_normalizer(self.mask, self.mask)

    def total(self, scale: float | Tensor) -> Tensor:
        factor = scale.item() if isinstance(scale, Tensor) else scale
        # the elements are asked for where autocast is off, the sum after that
        with full_products():
            return self.times(factor)


def full_products() -> contextlib.AbstractContextManager[Any]:
    """A context in which products of matrices have all their digits: a backward may run under autocast."""
    return without_autocast("cpu") if torch.is_autocast_enabled("cpu") else contextlib.nullcontext()


def wanted(x: Tensor) -> bool:
    """Whether a gradient with respect to ``x`` may be asked for."""
    return x.requires_grad and torch.is_grad_enabled()


def number(value: float, x: Tensor) -> Tensor:
    """A 0-d tensor in the precision of ``x``."""
    return torch.scalar_tensor(value, dtype=x.dtype)


def handed_on(slope: Tensor, grad: Tensor) -> Tensor:
    """``slope`` times the 0-d ``grad``: in the very memory where that is 1 and the graph ends here.

    So it is in most training steps. A graph that is gone back through once more keeps its slope for itself, so that
    whoever was given the gradient may write into it.
    """
    if not host.on_host(grad) or _graph_is_kept() or grad.item() != 1:
        return slope * grad
    # detached, as a slope that was an output of the function comes with its graph
    return slope.detach()


def recorded(loss: Callable[[Tensor], Tensor], x: Tensor, scale: Tensor | float) -> Tensor:
    """The gradient of ``scale`` times a sum, in operations that are recorded: for a double backward."""
    (gradient,) = torch.autograd.grad(loss(x).sum(), x, create_graph=True)
    return gradient * scale
