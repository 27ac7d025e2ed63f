"""What of a loss is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Curve:
    """One line of a plot.

    `at(t)` gives the arguments of the call, `(pred, target)` or `(pred, target, keywords)`, for a 0-d tensor t.
    """

    label: str
    at: Callable[[Tensor], tuple[Any, ...]]
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plot:
    """What of a loss is drawn.

    Attributes:
        x: What is varied, the label of the axis.
        span: First and last value of t.
        curves: The lines.
        text: The sentence under the picture.
        axis: What stands on the axis for a value of t; by default t itself.
        gradient: What the derivative is taken with respect to; by default `x` up to its first comma.
        limit: Highest value shown, where a curve leaves the picture; steepest: the same of the gradient.
        part: The entry of an unreduced loss that is drawn; None: the reduced loss.
        points: Number of values of t.
    """

    x: str
    span: tuple[float, float]
    curves: tuple[Curve, ...]
    text: str
    axis: Callable[[Tensor], Tensor] | None = None
    gradient: str | None = None
    limit: float | None = None
    steepest: float | None = None
    part: tuple[int, ...] | None = None
    points: int = 121


def elements(text: str, *curves: Curve, span: tuple[float, float] = (-6, 6), **more: Any) -> Plot:
    return Plot("logit", span, curves, text, **more)
