"""Count one case: this library, its definition and every other library."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from bench.accelerator.counting import count
from bench.accelerator.sizes import SETTINGS, Setting, at, inputs_of
from bench.accelerator.table import CaseCount, Implementation
from bench.case import Case, Function, Inputs
from bench.cases import COUNTED
from bench.checks import CountCopies
from bench.definitions import kernels_of
from bench.results import DEFINITION, OURS
from bench.worker import CaseRun, Options, Tell, built, described, quiet
from losses_core.utils.precision import map_tensors

FITS = 4 * 2**30
"""Bytes of inputs and peak together up to which what does not run on ``meta`` is run on the CPU."""


def attempt(tell: Tell, name: str, others: bool) -> CaseCount:
    """Count the implementations of a case, in a process of its own; ``others``: other libraries too."""
    torch.set_num_threads(1)
    quiet()
    case = COUNTED[name]
    given = inputs_of(case)
    counted = ours(case, given)
    for peer, implementation in states(case).items() if others else ():
        if implementation.state not in ("missing", "fails"):
            _count_other(case, peer, given, implementation)
        counted.implementations[peer] = implementation
    return counted


def ours(case: Case, given: Inputs | None = None, *, definition: bool = True) -> CaseCount:
    """This library, and its definition where a kernel runs, on ``meta`` alone."""
    given = inputs_of(case) if given is None else given
    counted = CaseCount(case.name, case.package)
    names = (OURS, DEFINITION) if definition and kernels_of(built(case, OURS), given) else (OURS,)
    for name in names:
        one = counted.implementations[name] = Implementation("agrees")
        for setting, inputs in _settings(case, given):
            counted.shapes[setting.name] = list(inputs.pred.shape)
            try:
                one.figures[setting.name] = count(moved(built(case, name)), inputs, settle=not setting.large)
            except Exception as error:  # the others of the case are counted all the same
                one.state, one.note = "fails", described(error)
    return counted


def ours_of(name: str) -> CaseCount:
    """This library alone, for a case by its name."""
    return ours(COUNTED[name], definition=False)


def states(case: Case) -> dict[str, Implementation]:
    """Whether the other libraries agree with this one, at the size of the case."""
    run = CaseRun(case, Options())
    run.check()
    contenders = {name: run.result.contenders[name] for name in case.peers}
    return {name: Implementation(one.state, note=one.note) for name, one in contenders.items()}


def moved(function: Function, device: str = "meta") -> Function:
    """A loss with its state on a device."""
    return function.to(device) if isinstance(function, nn.Module) else function


def in_float32(function: Function) -> Function:
    """The function of inputs cast to float32."""

    def cast(tensor: Tensor) -> Tensor:
        return tensor.float() if tensor.is_floating_point() else tensor

    def call(pred: Tensor, target: Any, **keywords: Any) -> Tensor:
        return function(cast(pred), map_tensors(cast, target), **map_tensors(cast, keywords))

    return call


def _count_other(case: Case, name: str, given: Inputs, counted: Implementation) -> None:
    """Count a library on ``meta``, or on the CPU where it needs values."""
    try:
        for setting, inputs in _settings(case, given):
            function = in_float32(moved(built(case, name)))
            counted.figures[setting.name] = count(function, inputs, settle=not setting.large)
    except Exception:  # it reads values, or makes tensors of its own on the CPU
        counted.device, counted.figures = "cpu", {}
        try:
            _count_on_cpu(case, name, given, counted)
        except Exception as error:
            counted.note = described(error)


def _count_on_cpu(case: Case, name: str, given: Inputs, counted: Implementation) -> None:
    per_element = 0.0
    for setting in SETTINGS.values():
        size = at(setting, case, given)
        if size is None or (setting.large and per_element * size.pred.numel() > FITS):
            continue
        inputs = at(setting, case, given, "cpu")
        assert inputs is not None
        with CountCopies() as copies:
            figures = count(in_float32(built(case, name)), inputs, settle=not setting.large)
        if copies.count:
            counted.note = "computes in NumPy, which is not counted"
            return
        counted.figures[setting.name] = figures
        per_element = max(per_element, (figures.peak + 3 * figures.pred) / inputs.pred.numel())


def _settings(case: Case, given: Inputs) -> Iterator[tuple[Setting, Inputs]]:
    for setting in SETTINGS.values():
        inputs = at(setting, case, given)
        if inputs is not None:
            yield setting, inputs
