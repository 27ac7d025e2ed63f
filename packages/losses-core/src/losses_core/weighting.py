"""Weights of the terms of a combination beyond their `loss_weight`: by a schedule, or learned.

A weighting keeps tensors, not numbers: a step of a schedule neither waits for the device nor makes a compiled loss be
compiled again.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from losses_core._build import construct
from losses_core._suggest import did_you_mean, printable, shown
from losses_core._terms import LossTerms
from losses_core.errors import ConfigError, InputError
from losses_core.schedules import build_schedule
from losses_core.utils import checks

__all__ = ["ScheduledWeighting", "UncertaintyWeighting", "Weighting", "build_weighting"]


UNITS: tuple[Literal["step", "epoch", "fraction"], ...] = ("step", "epoch", "fraction")


class Weighting(nn.Module, abc.ABC):
    """Base class of what weights the terms of a `CombinedLoss`."""

    @abc.abstractmethod
    def bind(self, labels: Sequence[str]) -> None:
        """Take the labels of the terms, those of nested losses joined with dots; called once, by `CombinedLoss`."""

    @abc.abstractmethod
    def forward(self, raw: Mapping[str, Tensor], weights: Mapping[str, float | Tensor]) -> LossTerms:
        """The terms, from their values and the `loss_weight` of each."""

    def step(self, position: float | None = None) -> None:
        """Advance by one step, or to a position; a weighting without a schedule does nothing."""

    @abc.abstractmethod
    def to_config(self) -> dict[str, Any]:
        """The config from which `build_weighting` builds this weighting again."""

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.to_config().items() if name != "type")


class ScheduledWeighting(Weighting):
    r"""Multiplies the `loss_weight` of terms by a function of the position in the training.

    .. math::
        L = \sum_k w_k\, f_k(t)\, L_k

    with :math:`f_k` a schedule of `losses_core.schedules`: constant, linear, cosine or step, each with a warm-up.

    Use when: a term should start late, fade out, or wait for the others: boundary losses, distillation, regularisers.

    Args:
        schedules: Label → schedule, or its config: a mapping with `type` and its parameters. A term that has none keeps
            its `loss_weight`.
        unit: What the parameters of the schedules count: `'step'`, calls of `step()`; `'epoch'`, epochs, of which
            there may be parts; `'fraction'`, the whole training is 1. Default: `'step'`.

    Raises:
        ConfigError: An unknown type, parameter or label, or a parameter out of its range.

    Example:
        >>> import torch
        >>> weighting = ScheduledWeighting({"dice": {"type": "linear", "steps": 4}})
        >>> weighting.bind(["ce", "dice"])
        >>> weighting.step()
        >>> weighting({"ce": torch.tensor(1.0), "dice": torch.tensor(2.0)}, {"ce": 1.0, "dice": 0.5})["dice"]
        tensor(0.2500)
        >>> weighting = ScheduledWeighting({"dice": {"type": "linear", "steps": 0.5}}, unit="fraction")
        >>> weighting.step(0.25)  # a quarter of the training
        >>> weighting({"dice": torch.tensor(2.0)}, {"dice": 1.0})["dice"]
        tensor(1.)

    Notes:
        Call `step()` after each step of the optimizer, or of `'epoch'` after each epoch. `step(position)` goes to a
        position instead, as `step(epoch + batch / batches)`; `'fraction'` always needs one. The position is in the
        `state_dict`.
    """

    count: Tensor

    def __init__(self, schedules: Mapping[str, Any], unit: Literal["step", "epoch", "fraction"] = "step") -> None:
        super().__init__()
        if not isinstance(schedules, Mapping) or not schedules:  # type: ignore[redundant-expr]
            raise ConfigError(f"expected a mapping label → schedule; got {shown(schedules)}.", "schedules")
        self.unit = checks.choice(self, "unit", unit, UNITS)
        self.schedules = {label: build_schedule(given, _place(label)) for label, given in schedules.items()}
        for label, schedule in self.schedules.items():
            schedule.check_unit(unit, _place(label))
        dtype = torch.long if unit == "step" else torch.float32
        self.register_buffer("count", torch.zeros((), dtype=dtype))

    def bind(self, labels: Sequence[str]) -> None:
        known = set(labels)
        for label in self.schedules:
            if label not in known:
                raise ConfigError(f"there is no term {shown(label)}.{did_you_mean(label, labels)}", _place(label))

    def step(self, position: float | None = None) -> None:
        """Advance by one step or epoch, or to a position.

        Args:
            position: The steps or epochs that have been taken, or the part of the training that is over.

        Raises:
            InputError: No position where the unit is a fraction, or one outside its range.
        """
        if position is None:
            if self.unit == "fraction":
                raise InputError("expected the part of the training that is over, in [0, 1]: step(0.25).", "step()")
            self.count += 1
            return
        most, what = (1.0, "a part in [0, 1]") if self.unit == "fraction" else (math.inf, "a number >= 0")
        if not 0 <= position <= most:
            raise InputError(f"expected {what}; got {position}.", "step()")
        self.count.fill_(position)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        before = self.count
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.count.dtype != before.dtype and not before.is_meta:  # half precision would round the position
            self.count = before.to(self.count.device)
        return self

    def forward(self, raw: Mapping[str, Tensor], weights: Mapping[str, float | Tensor]) -> LossTerms:
        # the first step or epoch is part of a warm-up
        begun = 0 if self.unit == "fraction" else 1
        factors = {label: schedule(self.count, begun) for label, schedule in self.schedules.items()}
        return LossTerms(raw, {k: w * factors[k] if k in factors else w for k, w in weights.items()})

    def to_config(self) -> dict[str, Any]:
        schedules = {k: v.to_config() for k, v in self.schedules.items()}
        return {"type": type(self).__name__, "schedules": schedules, "unit": self.unit}


def _place(label: object) -> str:
    return f"schedules.{printable(label, 80)}" if isinstance(label, str) else f"schedules[{shown(label)}]"


class UncertaintyWeighting(Weighting):
    r"""Learns the weight of each term from its uncertainty.

    .. math::
        L = \sum_k w_k\, e^{-s_k} L_k + r(s_k), \qquad r(s) = \tfrac{s}{2} \ \text{ or } \ \log(1 + e^{s})

    with a learned log-variance :math:`s_k = \log \sigma_k^2` for each term, 0 at first. With :math:`w = 1` that is the
    published form for classification, with :math:`w = \tfrac{1}{2}` the one for regression.

    Use when: tasks of different units are trained together and a grid search over their weights is too expensive.

    Args:
        penalty: `'log'`, r(s) = s/2 as published, which may make the total negative; `'log1p'`, r(s) = log(1 + e^s),
            which keeps it positive. Default: `'log'`.

    Raises:
        ConfigError: Another penalty.

    Example:
        >>> import torch
        >>> weighting = UncertaintyWeighting()
        >>> weighting.bind(["depth", "label"])
        >>> terms = weighting({"depth": torch.tensor(2.0), "label": torch.tensor(1.0)}, {"depth": 0.5, "label": 1.0})
        >>> terms.total
        tensor(2., grad_fn=<...>)

    References:
        Kendall, Gal and Cipolla, Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and
        Semantics, CVPR 2018, arXiv 1705.07115. `log1p`: Liebel and Körner, Auxiliary Tasks in Multi-task Learning,
        2018, arXiv 1805.06334.

    Notes:
        The log-variances are trained only if the optimizer has them: build it from
        ``losses_core.trainable_parameters(model, loss)`` and let ``losses_core.check_optimizer(optimizer, loss)``
        confirm it. Terms must not be negative.
    """

    log_variance: nn.Parameter

    def __init__(self, penalty: Literal["log", "log1p"] = "log") -> None:
        super().__init__()
        self.penalty = checks.choice(self, "penalty", penalty, ("log", "log1p"))

    def bind(self, labels: Sequence[str]) -> None:
        self.log_variance = nn.Parameter(torch.zeros(len(labels)))

    def forward(self, raw: Mapping[str, Tensor], weights: Mapping[str, float | Tensor]) -> LossTerms:
        factors = torch.exp(-self.log_variance).unbind()
        penalties = (self.log_variance / 2 if self.penalty == "log" else F.softplus(self.log_variance)).unbind()
        scaled = {k: w * factor for (k, w), factor in zip(weights.items(), factors, strict=True)}
        return LossTerms(raw, scaled, dict(zip(weights, penalties, strict=True)))

    def to_config(self) -> dict[str, Any]:
        return {"type": type(self).__name__, "penalty": self.penalty}


WEIGHTINGS: dict[str, type[Weighting]] = {cls.__name__: cls for cls in (ScheduledWeighting, UncertaintyWeighting)}


def build_weighting(config: Any, where: str = "weighting") -> Weighting:
    """Build a weighting from its config: a mapping with `type` and parameters, the name alone, or a weighting.

    Raises:
        ConfigError: The config has a fault.

    Example:
        >>> build_weighting({"type": "UncertaintyWeighting", "penalty": "log1p"}).penalty
        'log1p'
    """
    return config if isinstance(config, Weighting) else construct(WEIGHTINGS, config, where, "weighting")
