"""What is made of samples: medians with quartiles, ratios of what was measured in the same round, geometric means."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float


def spread(samples: Sequence[float]) -> Spread:
    """Median and quartiles of the samples."""
    if len(samples) == 1:
        return Spread(samples[0], samples[0], samples[0])
    low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
    return Spread(median, low, high)


def paired(samples: Sequence[float], others: Sequence[float]) -> Spread:
    """The ratio of two, round by round: what disturbs a whole round leaves it as it is."""
    return spread([mine / other for mine, other in zip(samples, others, strict=True)])


def geometric_mean(ratios: Iterable[float]) -> float | None:
    """None of nothing."""
    logarithms = [math.log(ratio) for ratio in ratios]
    return math.exp(math.fsum(logarithms) / len(logarithms)) if logarithms else None


EQUAL = 1.05
"""A median ratio up to this is noise and counts as equal."""


def standing(ratio: Spread) -> str:
    """Whether a ratio ours/theirs says that ours is ``faster``, ``equal`` or ``slower``."""
    if ratio.median > EQUAL and ratio.low > 1:
        return "slower"
    if ratio.median < 1 / EQUAL and ratio.high < 1:
        return "faster"
    return "equal"
