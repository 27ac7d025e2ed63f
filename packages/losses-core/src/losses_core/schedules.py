r"""Factors of a `loss_weight` as functions of the position in the training: in steps, epochs or as a fraction.

Each is a function of a 0-d tensor, so that following it never waits for the device.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from losses_core._build import construct
from losses_core.errors import ConfigError
from losses_core.utils import checks

__all__ = ["SCHEDULES", "Constant", "Cosine", "Linear", "Schedule", "Step", "build_schedule"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule(abc.ABC):
    r"""A factor :math:`f(t)`, times :math:`\min((t + 1) / \text{warmup}, 1)` with a warm-up. Base class.

    Args:
        warmup: length over which the factor rises from 0, in the unit of t. Default: 0.
    """

    type: ClassVar[str]
    """The name in a config."""

    divisors: ClassVar[tuple[str, ...]] = ()
    """The parameters that the formula divides by."""

    warmup: float = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in self.divisors:
                checks.number(self, field.name, value, above=0)
            else:
                checks.number(self, field.name, value, low=0)

    def check_unit(self, unit: str, where: str) -> None:
        """Check that the lengths fit what they count: whole steps, or a part of the training.

        Raises:
            ConfigError: A length does not.
        """
        for name in (*self.divisors, "warmup"):
            value = getattr(self, name)
            if unit == "step" and value != int(value):
                hint = "For other lengths set unit: epoch, or unit: fraction."
                raise ConfigError(f"expected a whole number of steps; got {value}.", f"{where}.{name}", hint)
            if unit == "fraction" and value > 1:
                raise ConfigError(f"expected a part of the training in [0, 1]; got {value}.", f"{where}.{name}")

    def __call__(self, t: Tensor, begun: int = 1) -> Tensor:
        """The factor at t, 0-d.

        Args:
            t: steps, epochs, or the part of the training that is over.
            begun: what a warm-up adds to t: 1, so that its first step counts already, or 0.
        """
        factor = self._factor(t)
        return factor * ((t + begun) / self.warmup).clamp(max=1) if self.warmup else factor

    @abc.abstractmethod
    def _factor(self, t: Tensor) -> Tensor:
        """The factor at t, but for the warm-up."""

    def to_config(self) -> dict[str, Any]:
        """The config from which `build_schedule` builds this schedule again."""
        return {"type": self.type, **dataclasses.asdict(self)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    """A constant factor, apart from the warm-up.

    Args:
        value: the factor ≥ 0. Default: 1.
        warmup: see `Schedule`.

    Example:
        >>> [Constant(warmup=4)(torch.tensor(t)).item() for t in (0, 1, 3, 9)]
        [0.25, 0.5, 1.0, 1.0]
    """

    type = "constant"
    value: float = 1.0

    def _factor(self, t: Tensor) -> Tensor:
        return torch.full_like(t, self.value, dtype=torch.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Linear(Schedule):
    r"""From one value to another, linearly: :math:`a + (b - a) \min(t / T, 1)`.

    Args:
        steps: T > 0.
        start: a ≥ 0. Default: 0.
        end: b ≥ 0. Default: 1.
        warmup: see `Schedule`.

    Example:
        >>> [Linear(steps=4)(torch.tensor(t)).item() for t in (0, 1, 4, 9)]
        [0.0, 0.25, 1.0, 1.0]
    """

    type = "linear"
    divisors = ("steps",)
    steps: float
    start: float = 0.0
    end: float = 1.0

    def _factor(self, t: Tensor) -> Tensor:
        return self.start + (self.end - self.start) * (t / self.steps).clamp(max=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cosine(Linear):
    r"""From one value to another along half a cosine: :math:`b + (a - b) (1 + \cos(\pi \min(t / T, 1))) / 2`.

    Args:
        steps: T > 0.
        start: a ≥ 0. Default: 0.
        end: b ≥ 0. Default: 1.
        warmup: see `Schedule`.

    Example:
        >>> [round(Cosine(steps=4, start=1, end=0)(torch.tensor(t)).item(), 3) for t in (0, 1, 2, 4)]
        [1.0, 0.854, 0.5, 0.0]
    """

    type = "cosine"

    def _factor(self, t: Tensor) -> Tensor:
        turned = torch.cos(math.pi * (t / self.steps).clamp(max=1))
        return self.end + (self.start - self.end) * (1 + turned) / 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step(Schedule):
    r"""Multiplied by a factor at regular intervals: :math:`a\, q^{\lfloor t / T \rfloor}`.

    Args:
        every: T > 0.
        start: a ≥ 0. Default: 1.
        factor: q ≥ 0. Default: 0.1.
        warmup: see `Schedule`.

    Example:
        >>> [Step(every=2, factor=0.5)(torch.tensor(t)).item() for t in (0, 1, 2, 5)]
        [1.0, 1.0, 0.5, 0.25]
    """

    type = "step"
    divisors = ("every",)
    every: float
    start: float = 1.0
    factor: float = 0.1

    def _factor(self, t: Tensor) -> Tensor:
        return self.start * torch.full_like(t, self.factor, dtype=torch.float32) ** (t / self.every).floor()


SCHEDULES: dict[str, type[Schedule]] = {cls.type: cls for cls in (Constant, Linear, Cosine, Step)}


def build_schedule(config: Any, where: str = "schedule") -> Schedule:
    """Build a schedule from its config: a mapping with `type` and the parameters of that schedule, or a schedule.

    Raises:
        ConfigError: The config has a fault.

    Example:
        >>> build_schedule({"type": "linear", "steps": 100})
        Linear(warmup=0, steps=100, start=0.0, end=1.0)
    """
    return config if isinstance(config, Schedule) else construct(SCHEDULES, config, where, "schedule")
