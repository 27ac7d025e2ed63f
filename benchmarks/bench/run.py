"""The benchmark: every case, on two processors."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import metadata, pool
from bench.cases import CASES
from bench.results import DEFINITION, CaseResult, Report
from bench.worker import Options, Tell, Turns, measure

PROCESSES = 4
"""At once: one is timed, another compiles, and two have something ready for whichever is done first."""


def benchmark(names: Iterable[str], options: Options, console: Console) -> Report:
    """Measure these cases; what goes wrong with one of ours is in the metadata, under ``failed``."""
    server, start = pool.context(), time.monotonic()
    # a device has one queue for all: what compiles on it disturbs what is timed
    processors = 1 if options.device == "cuda" else min(2, os.cpu_count() or 1)
    timing, work = server.Lock(), server.Semaphore(processors)
    known = facts_needed(names)
    jobs = {name: (name, options, analyse, timing, work) for name, analyse in known.items()}
    found: dict[str, CaseResult] = {}
    failed: dict[str, str] = {}
    with progress_bar(console) as progress:
        bar = progress.add_task("", total=len(jobs))
        stages: dict[str, str] = {}
        for message in pool.run(server, _measure, jobs, PROCESSES):
            if message.kind == "stage":
                stages[message.job] = message.content
            else:
                stages.pop(message.job, None)
                (found if message.kind == "result" else failed)[message.job] = message.content
                progress.advance(bar)
            progress.update(bar, description=", ".join(f"{job} {stage}" for job, stage in stages.items()))
    cases = [found[name] for name in jobs if name in found]
    share_facts(cases)
    return Report(
        metadata.collect(
            device=options.device,
            threads=1,
            compiled=options.compile,
            failed=failed,
            seconds=round(time.monotonic() - start),
            seconds_per_case=options.seconds,
            allocator={name: value for name, value in pool.ENVIRONMENT.items() if name.startswith("MALLOC")},
        ),
        cases,
    )


def _measure(tell: Tell, name: str, options: Options, analyse: bool, timing: object, work: object) -> CaseResult:
    return measure(name, options, Turns(timing, work, tell), analyse=analyse)  # type: ignore[arg-type]


def facts_needed(names: Iterable[str]) -> dict[str, bool]:
    """Case → whether graphs are to be counted there: once for all sizes of a loss."""
    seen, needed = [], {}
    for name in names:
        loss = (CASES[name].config, sorted(CASES[name].peers))
        needed[name] = loss not in seen
        seen.append(loss)
    return needed


def share_facts(cases: Iterable[CaseResult]) -> None:
    """Give what was counted at one size to the other sizes of the loss."""
    known: dict[str, CaseResult] = {}
    for case in cases:
        names = sorted(case.contenders.keys() - {DEFINITION})  # whose graphs are not counted
        first = known.setdefault(f"{case.config} {names}", case)
        for name in names:
            contender, other = case.contenders[name], first.contenders[name]
            if contender.breaks is None:
                contender.breaks, contender.recompilations = other.breaks, other.recompilations


def progress_bar(console: Console) -> Progress:
    """Bar, count, time and what is being done."""
    columns = (BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    return Progress(*columns, console=console)
