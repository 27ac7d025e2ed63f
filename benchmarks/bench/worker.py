"""One case, in a process of its own."""

from __future__ import annotations

import copy
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

import bench.cases
from bench import checks
from bench.accelerator.counting import memory
from bench.case import Case, Function, Inputs
from bench.definitions import ByDefinition, kernels_of
from bench.peers import Missing
from bench.results import DEFINITION, OURS, CaseResult, Contender
from bench.stats import paired, spread
from bench.timing import Clock, Step, clock_of, interleaved
from losses_core import build_loss
from losses_testkit.runs import leaves

COMPILED_PEERS, NEAR = 2, 1.5
"""How many peers of a case are compiled, and how much slower than the fastest they may be."""


SETTLE = 3
"""Calls after which a compiled function is to compile nothing more."""


Tell = Callable[[str, Any], None]


class Lock(Protocol):
    """`multiprocessing`'s locks and semaphores."""

    def __enter__(self) -> Any: ...
    def __exit__(self, *args: Any) -> Any: ...


@dataclass(frozen=True)
class Options:
    """How much is measured.

    Attributes:
        device: ``cpu`` or ``cuda``.
        compile: also under torch.compile.
        seconds: for the rounds of one case in one mode.
    """

    device: str = "cpu"
    compile: bool = True
    seconds: float = 0.6


class Turns:
    """Whose turn it is: one process at a time is timed, and beside it another may compile.

    Args:
        timing: held while times are measured.
        work: held while a processor is kept busy, timing included.
        tell: is told what begins.
    """

    def __init__(self, timing: Lock, work: Lock, tell: Tell) -> None:
        self.timing, self.work, self.tell = timing, work, tell
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        with self.timing, self.untimed(stage):
            yield

    @contextmanager
    def untimed(self, stage: str) -> Iterator[None]:
        with self.work:
            self.tell("stage", stage)
            start = sum(os.times()[:4])  # with that of the compilers it starts
            yield
            self.seconds[stage] = sum(os.times()[:4]) - start


def measure(name: str, options: Options, turns: Turns, *, analyse: bool = True) -> CaseResult:
    """Everything about one case; ``analyse``: also what is the same for all sizes."""
    torch.set_num_threads(1)
    quiet()
    run = CaseRun(bench.cases.CASES[name], options)
    with turns.timed("eager"):
        run.check()
        run.time_eager()
    with turns.untimed("compile" if options.compile else "analyse"):
        run.analyse(graphs=analyse)
        if options.compile:
            run.compile()
    if options.compile and run.compiled:
        with turns.timed("compiled"):
            run.time_compiled()
    run.result.seconds = turns.seconds
    return run.result


def quiet() -> None:
    """No warnings: what peers warn of is theirs to mend, and that a peer cannot be compiled is in the results."""
    warnings.simplefilter("ignore")
    for name in ("torch", "torch._dynamo", "torch._inductor"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def built(case: Case, name: str) -> Function:
    """A new instance of an implementation: this library's loss, that by its definition, or another library's."""
    if name not in (OURS, DEFINITION):
        return case.peers[name].make()
    loss = build_loss(dict(case.config))
    return loss if name == OURS else ByDefinition(loss)


class CaseRun:
    """One case: its implementations, and what is measured of them.

    Args:
        case: what to measure.
        options: how much.
    """

    def __init__(self, case: Case, options: Options) -> None:
        self.case, self.options = case, options
        self.clock: Clock = clock_of(options.device)
        move = partial(torch.Tensor.to, device=options.device)
        self.given = checks.replaced(case.inputs(torch.Generator().manual_seed(0)), move)
        self.given.pred.requires_grad_()
        torch.manual_seed(0)
        self.functions: dict[str, Function] = {}
        self.compiled: dict[str, Function] = {}
        shape = list(self.given.pred.shape)
        self.result = CaseResult(case.name, case.package, dict(case.config), shape, case.elementwise)
        contenders = self.result.contenders
        for name in (OURS, *case.peers):
            variant = case.peers[name].variant if name != OURS else None
            contenders[name] = Contender("variant" if variant else "agrees", variant or "")
            try:
                made = built(case, name)
            except Missing:
                contenders[name].state = "missing"
                continue
            self.functions[name] = made.to(options.device) if isinstance(made, torch.nn.Module) else made
        self.result.kernels = kernels_of(self.functions[OURS], self.given)
        if self.result.kernels:
            contenders[DEFINITION] = Contender("agrees")

    def step(self, function: Function) -> tuple[Tensor, Tensor]:
        return checks.step(function, self.given)

    # ---------------------------------------------------------------------------------------------------------- eager

    def check(self) -> None:
        """Value and gradient of each, beside ours in float64."""
        ours: Any = self.functions[OURS]
        self._seeded(ours)  # what is made at the first call
        for name, function in self.functions.items():
            share = self.case.peers[name].share if name in self.case.peers else None
            if share:
                self._seeded(function)
                share(ours, function)
        if self.result.kernels:
            self.functions[DEFINITION] = ByDefinition(copy.deepcopy(ours))
        torch.manual_seed(0)
        self.truth = truth = checks.exact(ours, self.given)
        for name, function in list(self.functions.items()):
            contender = self.result.contenders[name]
            try:
                errors = checks.distance(self._seeded(function), truth)
            except Exception as error:  # a peer may fail in any way
                contender.state, contender.note = "fails", described(error)
                del self.functions[name]
                continue
            contender.value_error, contender.gradient_error = errors
            if contender.state == "agrees" and not checks.agrees(errors):
                contender.state = "disagrees"

    def _seeded(self, function: Function) -> tuple[Tensor, Tensor]:
        torch.manual_seed(0)
        return self.step(function)

    def time_eager(self) -> None:
        steps: dict[str, Step] = {name: partial(self.step, function) for name, function in self.functions.items()}
        samples = interleaved(steps | {"floor": floor(self.given)}, self.clock, self.options.seconds)
        result = self.result
        result.rounds = len(samples[OURS])
        result.floor_ms, result.over_floor = spread(samples["floor"]), paired(samples[OURS], samples["floor"])
        for name in self.functions:
            contender = result.contenders[name]
            contender.eager_ms, contender.eager_ratio = spread(samples[name]), paired(samples[OURS], samples[name])

    # -------------------------------------------------------------------------------------------------------- compiled

    def analyse(self, *, graphs: bool) -> None:
        """Memory and syncs of each, and graphs."""
        pred = self.given.pred
        for name, function in self.functions.items():
            contender = self.result.contenders[name]
            saved, peak = memory(function, self.given)
            contender.saved, contender.peak = (
                number / (pred.numel() * pred.element_size()) for number in (saved, peak)
            )
            if name == DEFINITION:
                continue
            contender.syncs = checks.syncs(partial(built, self.case, name), self.given)
            if not graphs:
                continue
            try:
                contender.recompilations, contender.breaks = checks.recompilations(function, self.given), 0
            except Exception as error:
                contender.compiled_note = described(error)
                with suppress(Exception):
                    contender.breaks = checks.graph_breaks(function, self.given)

    def compile(self) -> None:
        """Compile ours and the fastest peers, and hold what comes out against float64."""
        # a state has moved on since then, and compiled code draws other numbers
        drawn = any(peer.share for peer in self.case.peers.values())
        for name in [OURS, *([DEFINITION] if self.result.kernels else []), *self._fastest()]:
            contender = self.result.contenders[name]
            if contender.breaks:
                continue
            contender.compiled_note = ""
            function: Any = self.functions[name]
            compiled: Function
            if name == DEFINITION:  # the compiler sees the loss, and the context manager stays around it
                compiled = ByDefinition(torch.compile(called(function.loss), fullgraph=True))
            else:
                compiled = torch.compile(called(function), fullgraph=True)
            try:
                for _ in range(SETTLE):
                    self.step(compiled)
                errors = checks.distance(self._seeded(compiled), self.truth)
            except Exception as error:
                contender.compiled_note = described(error)
                continue
            if contender.state == "agrees" and not (drawn or checks.agrees(errors)):
                contender.compiled_note = f"compiled to other numbers: {errors[0]:.0e}, {errors[1]:.0e}"
                continue
            self.compiled[name] = compiled

    def _fastest(self) -> list[str]:
        """The peers to compile: those that agree, or else the variants, by their eager time."""
        contenders = self.result.contenders
        timed = [name for name in self.functions if name in self.case.peers and contenders[name].state != "disagrees"]
        found = [name for name in timed if contenders[name].state == "agrees"] or timed
        times = {name: time.median for name in found if (time := contenders[name].eager_ms)}
        best = min(times.values(), default=0)
        return sorted((n for n in times if times[n] <= NEAR * best), key=times.__getitem__)[:COMPILED_PEERS]

    def time_compiled(self) -> None:
        result, contenders = self.result, self.result.contenders
        steps: dict[str, Step] = {name: partial(self.step, function) for name, function in self.compiled.items()}
        best = result.fastest()
        for name in {OURS, best, *self.compiled} - {None}:
            steps[f"{name} eager"] = partial(self.step, self.functions[str(name)])
        samples = interleaved(steps, self.clock, self.options.seconds)
        result.compiled_rounds = len(samples[next(iter(self.compiled))])
        for name in self.compiled:
            contenders[name].compiled_ms = spread(samples[name])
            contenders[name].compiled_over_eager = paired(samples[name], samples[f"{name} eager"])
            if OURS in self.compiled:
                contenders[name].compiled_ratio = paired(samples[OURS], samples[name])
        if best and OURS in self.compiled:
            result.compiled_over_eager_peer = paired(samples[OURS], samples[f"{best} eager"])


def called(loss: Function) -> Function:
    """A function that calls the loss, as a training step does: what is compiled is that, whether a module or not."""

    def step(pred: Tensor, target: Any, **call: Any) -> Tensor:
        return loss(pred, target, **call)

    return step


def floor(given: Inputs) -> Step:
    """A copy that moves as many bytes as a step must: pred and target are read once, a gradient is written."""
    tensors = [given.pred, *leaves([given.pred, given.target, dict(given.call)])]
    number = max(1, sum(tensor.numel() * tensor.element_size() for tensor in tensors) // 8)
    source, destination = (torch.zeros(number, dtype=torch.float32, device=given.pred.device) for _ in range(2))
    return lambda: destination.copy_(source)  # a copy moves its bytes twice


def described(error: BaseException) -> str:
    """The name of the error and the first line of its text."""
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text[:120]}" if text else type(error).__name__
