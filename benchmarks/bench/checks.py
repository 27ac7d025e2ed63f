"""What is found out about an implementation beside its time: agreement, syncs, graphs."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from bench.case import Function, Inputs
from losses_core.utils.precision import map_tensors
from losses_testkit.runs import waits_for_device

VALUE, GRADIENT = 1e-3, 1e-2
"""How far value and gradient may lie from the float64 result, relative to value and largest gradient: float32 sums over
millions of elements are that rough in some libraries, other definitions are further away."""


def step(function: Function, given: Inputs) -> tuple[Tensor, Tensor]:
    """Forward and backward: value, and the gradient in pred."""
    value = function(given.pred, given.target, **given.call)
    (gradient,) = torch.autograd.grad(value.sum() if value.ndim else value, given.pred)
    return value.detach(), gradient


def exact(ours: torch.nn.Module, given: Inputs) -> tuple[Tensor, Tensor]:
    """Value and gradient of a copy of our loss in float64."""

    def up(tensor: Tensor) -> Tensor:
        return tensor.detach().double() if tensor.is_floating_point() else tensor

    pred = up(given.pred).requires_grad_()
    return step(copy.deepcopy(ours).double(), Inputs(pred, map_tensors(up, given.target), map_tensors(up, given.call)))


def distance(found: tuple[Tensor, Tensor], truth: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """How far value and gradient are from the truth, relative to value and largest gradient."""
    value = (found[0].double().sum() - truth[0]).abs() / truth[0].abs().clamp(min=1e-12)
    gradient = (found[1].double() - truth[1]).abs().max() / truth[1].abs().max().clamp(min=1e-300)
    return float(value), float(gradient)


def agrees(errors: tuple[float, float]) -> bool:
    return errors[0] <= VALUE and errors[1] <= GRADIENT  # a NaN does not


# -------------------------------------------------------------------------------------------------------------- syncs


class _CountSyncs(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += waits_for_device(func, args)
        return func(*args, **(kwargs or {}))


class CountCopies(TorchFunctionMode):
    """Copies to NumPy: of a tensor on the host no operation tells of them."""

    count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func in (Tensor.numpy, Tensor.__array__)
        return func(*args, **(kwargs or {}))


def on_meta(make: Callable[[], Function], given: Inputs) -> bool:
    """Whether a step runs on tensors without values, so that nothing in it waits for a device."""
    moved = replaced(given, lambda tensor: tensor.detach().to("meta"))
    moved.pred.requires_grad_()
    try:
        function = make()
        step(function.to("meta") if isinstance(function, torch.nn.Module) else function, moved)
    except Exception:  # what an operation raises that needs a value is its own matter
        return False
    return True


def syncs(make: Callable[[], Function], given: Inputs) -> int:
    """Operations of a step that would make the host wait, were the tensors on a device.

    There are none in a step that runs on ``meta`` tensors. Of any other they are counted on the CPU.

    Args:
        make: gives a new instance of the loss.
        given: its inputs.
    """
    if on_meta(make, given):
        return 0
    function = make()
    step(function, given)  # what is made at the first call
    with _CountSyncs() as operations, CountCopies() as copies:  # type: ignore[no-untyped-call]
        step(function, given)
    return int(operations.count + copies.count)


# ------------------------------------------------------------------------------------------------------------- graphs

SIZES = (13, 6, 9)
"""Batch sizes; 13 first: torch ties a batch size to all sizes equal to it, such as the 4 coordinates of a box."""


def resized(given: Inputs, batch: int, side: int = 32) -> Inputs:
    """The inputs with another batch size, and images cropped."""
    old, spatial = given.pred.shape[0], given.pred.shape[2:] if given.pred.ndim == 4 else ()

    def cut(tensor: Tensor) -> Tensor:
        if tensor.ndim and tensor.shape[0] == old:
            tensor = tensor.detach().repeat(-(-batch // old), *(1 for _ in tensor.shape[1:]))[:batch]
            if spatial and tensor.shape[-2:] == spatial:
                tensor = tensor[..., :side, :side]
        return tensor.clone()

    parts = (map_tensors(cut, part) for part in (given.pred, given.target, dict(given.call)))
    pred, target, call = parts
    return Inputs(pred.requires_grad_(), target, call)


class _Counted:
    """A backend that counts how often it is asked to compile, and runs the graphs as they are."""

    graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        self.graphs += 1
        return graph


def recompilations(function: Function, given: Inputs) -> int:
    """Compilations after the first over further batch sizes, with ``dynamic=True``; raises where there is a break."""
    with _fresh_compiler():
        backend = _Counted()
        compiled = torch.compile(function, fullgraph=True, dynamic=True, backend=backend)
        first = 0  # tracing may start over within the first compilation
        for size in SIZES:
            step(compiled, resized(given, size))
            first = first or backend.graphs
        return backend.graphs - first


def graph_breaks(function: Function, given: Inputs) -> int:
    """Graph breaks of the forward, as the tracer counts them."""
    from torch._dynamo.utils import counters

    with _fresh_compiler():
        counters.clear()
        torch.compile(function, backend="eager")(given.pred, given.target, **given.call)
        return sum(counters["graph_break"].values())


@contextmanager
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    try:
        yield
    finally:
        torch._dynamo.reset()


def replaced(given: Inputs, change: Callable[[Tensor], Tensor]) -> Inputs:
    """The inputs with every tensor changed."""
    parts = {f.name: map_tensors(change, getattr(given, f.name)) for f in dataclasses.fields(given)}
    return Inputs(**parts)
