"""Times of several functions, measured in turn."""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch

Step = Callable[[], object]
Clock = Callable[[Step, int], float]

SHORTEST = 0.003
"""Seconds below which a sample would say more of the clock than of the function."""
LONG = 0.03
"""Seconds of a step to which what lies in the caches before it does not matter."""
FEWEST, MOST = 5, 41
"""Rounds, whatever their time; 41 take no more than a step of a few milliseconds needs to settle."""


def cpu_clock(step: Step, loops: int) -> float:
    """Seconds of one call, as the mean of several."""
    start = time.perf_counter()
    for _ in range(loops):
        step()
    return (time.perf_counter() - start) / loops


def cuda_clock(step: Step, loops: int) -> float:
    """The same by the events of a stream, which the calls before have left empty."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    for _ in range(loops):
        step()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1e3 / loops


def clock_of(device: str) -> Clock:
    return cuda_clock if device == "cuda" else cpu_clock


def interleaved(steps: Mapping[str, Step], clock: Clock, seconds: float) -> dict[str, list[float]]:
    """Milliseconds of each step, one sample a round, each round in another order.

    Rounds go on for about ``seconds``. A sample is as many calls as `SHORTEST` needs. Where a call takes no longer than
    `LONG`, another goes before, untimed: what the step before has left in the caches is not to count.
    """
    loops, warm = {}, {}
    with _undisturbed():
        for name, step in steps.items():
            step()  # caches, lazy initialisation, the allocator
            duration = min(clock(step, 1) for _ in range(2))
            loops[name], warm[name] = max(1, math.ceil(SHORTEST / max(duration, 1e-9))), duration < LONG
        order, shuffle = list(steps), random.Random(0).shuffle
        samples: dict[str, list[float]] = {name: [] for name in steps}
        end, rounds = time.perf_counter() + seconds, 0
        while rounds < FEWEST or (rounds < MOST and time.perf_counter() < end):
            shuffle(order)
            for name in order:
                if warm[name]:
                    steps[name]()
                samples[name].append(1e3 * clock(steps[name], loops[name]))
            rounds += 1
    return samples


@contextmanager
def _undisturbed() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
