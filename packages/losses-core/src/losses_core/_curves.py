"""Value and gradient of a loss along the path of its example: the numbers behind a plot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple, cast

import torch

from losses_core.base_loss import BaseLoss
from losses_core.builder import build_loss, find_faults
from losses_core.errors import InputError
from losses_core.examples import Example, Path
from losses_core.registry import LOSSES

POINTS = 201


class Curve(NamedTuple):
    """One line of a plot.

    Attributes:
        options: The parameters that were varied, as text.
        line: Which line of the path, as text.
        x, value, gradient: As many numbers each.
    """

    options: str
    line: str
    x: list[float]
    value: list[float]
    gradient: list[float]

    @property
    def label(self) -> str:
        return ", ".join(filter(None, (self.options, self.line)))


def variants(name: str, vary: Mapping[str, Sequence[Any]]) -> dict[str, BaseLoss]:
    """A loss for each combination of the values: what was varied, as text → the loss.

    Raises:
        ConfigError: The loss has no such parameter, or refuses a value.
        RegistryError: There is no such loss.
    """
    LOSSES[name]  # a wrong name is no fault of the parameters
    built = {}
    for values in product(*vary.values()):
        options = dict(zip(vary, values, strict=True))
        config = {"type": name, **options}
        for fault in find_faults(config, "--vary"):
            raise fault
        torch.manual_seed(0)
        loss = cast("BaseLoss", build_loss(config))  # one type makes no combination
        built[", ".join(f"{key}={value}" for key, value in options.items())] = loss.double().eval()
    return built


def example_of(loss: BaseLoss) -> tuple[Example, Path]:
    """The example of a loss, and its path.

    Raises:
        InputError: It has none.
    """
    if loss.example is None or loss.example.path is None:
        raise InputError(
            f"{type(loss).__name__} does not say along what it can be drawn: give the class an example with a path, as "
            "example = losses_core.examples.LABELS."
        )
    return loss.example, loss.example.path


def curves(losses: Mapping[str, BaseLoss], step: Callable[[str], None]) -> Iterator[Curve]:
    """The lines of a plot, one for each loss and each line of its path; `step` is told before each."""
    for options, loss in losses.items():
        example, path = example_of(loss)
        for line in path.lines:
            step(f"{options} {line}".strip())
            yield Curve(options, line, *_along(loss, example, line, path.span))


def _along(
    loss: BaseLoss, example: Example, line: str, span: tuple[float, float]
) -> tuple[list[float], list[float], list[float]]:
    places = torch.linspace(*span, POINTS, dtype=torch.float64)
    first = example.at(loss, line, places[0])
    loss(first.pred, first.target, **first.call)  # parts that are made at the first call take random numbers
    values, gradients = [], []
    for place in places:
        t = place.clone().requires_grad_()
        inputs = example.at(loss, line, t)
        torch.manual_seed(0)  # the same draw at every point
        value = loss(inputs.pred, inputs.target, **inputs.call).sum()
        (gradient,) = torch.autograd.grad(value, t, materialize_grads=True)
        values.append(value.item())
        gradients.append(gradient.item())
    return places.tolist(), values, gradients
