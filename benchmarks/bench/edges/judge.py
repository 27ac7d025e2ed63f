"""What becomes of one input in one implementation."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.case import Function, Inputs
from bench.edges.subject import Edge, Implementation
from losses_core.utils.precision import map_tensors

HALF = (torch.float16, torch.bfloat16)
TOLERANCE = {True: (2e-2, 1e-3), False: (1e-4, 1e-5)}
"""For half precision and for the others: what a value may be off, of the right one and in itself."""


@dataclass(frozen=True)
class Cell:
    """What is shown; ``ok`` is None where the library has no such option."""

    ok: bool | None
    text: str


OK, NO_OPTION = Cell(True, "ok"), Cell(None, "no option")


def judge(edge: Edge, implementation: Implementation) -> Cell:
    """Try one row; a library that is not installed raises `bench.peers.Missing`."""
    if edge.option and edge.option not in implementation.options:
        return NO_OPTION
    loss, given = implementation.make(edge.option), edge.given()
    if edge.compiled:
        torch._dynamo.reset()
        loss = torch.compile(loss, fullgraph=True, backend="aot_eager")
    try:
        value, gradient = _run(loss, given, whole=edge.option != "none")
    except Exception as error:  # whatever a library raises
        return Cell(False, _raised(error))
    still = edge.still or bool(implementation.still & {edge.name, "*"})
    faults = [_of_value(value, edge, _right(edge, implementation, given), given), _of_gradient(gradient, still)]
    return Cell(False, ", ".join(filter(None, faults))) if any(faults) else OK


class _Returned(Exception):
    """What a library gives back is not a loss."""


def _run(loss: Function, given: Inputs, *, whole: bool) -> tuple[float, Tensor]:
    """Value and gradient; of an unreduced loss (not ``whole``) those of all entries but the last."""
    pred = given.pred.detach().clone().requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value: Any = loss(pred, given.target, **given.call)
        if not isinstance(value, Tensor):
            raise _Returned(f"gives the number {value}")
        if not value.requires_grad:
            raise _Returned(f"{_number(float(value.sum()))} without a graph")
        (gradient,) = torch.autograd.grad(value.sum(), pred)
    if whole:
        return float(value.detach().sum()), gradient
    return float(value.detach()[:-1].double().mean()), gradient[:-1]


def _number(value: float) -> str:
    return f"{value:.3g}".replace("nan", "NaN")


def _raised(error: Exception) -> str:
    if isinstance(error, _Returned):
        return str(error)
    return f"raises {type(error).__name__}"


def _right(edge: Edge, implementation: Implementation, given: Inputs) -> float:
    """The exact value, NaN where it is not known."""
    if edge.bounds:
        return math.nan
    if edge.option == "none":
        given = Inputs(given.pred[:-1], given.target[:-1])

    def numbers(tensor: Tensor) -> Any:
        return (tensor.detach().double() if tensor.is_floating_point() else tensor).numpy()

    with np.errstate(all="ignore"):
        parts = (map_tensors(numbers, part) for part in (given.pred, given.target, dict(given.call)))
        pred, target, call = parts
        return implementation.exact(pred, target, **call)


def _of_value(value: float, edge: Edge, right: float, given: Inputs) -> str:
    if not math.isfinite(value):
        return _number(value)
    low, high = edge.bounds or (right, right)
    if math.isnan(low):
        return ""
    relative, absolute = TOLERANCE[given.pred.dtype in HALF]
    slack = absolute + relative * abs(low if math.isfinite(low) else 0)
    if low - slack <= value <= high + slack:
        return ""
    return f"{value:.3g} for {f'{low:.3g}' if low == high else f'{low:g} to {high:g}'}"


def _of_gradient(gradient: Tensor, still: bool) -> str:
    if not gradient.isfinite().all():
        return "NaN gradient" if gradient.isnan().any() else "inf gradient"
    if not still and not gradient.any():
        return "zero gradient"
    return ""


def check_ordinary(make: Callable[[], Inputs], implementation: Implementation) -> str:
    """What an implementation gets wrong of an input without edges: nothing, or its rows would say nothing."""
    cell = judge(Edge("ordinary", make), implementation)
    return "" if cell.ok else cell.text
