"""Value and gradient of a loss along the path of its example: the numbers behind a plot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple, cast

import torch

from losses_core._signature import constructor_parameters
from losses_core.base_loss import BaseLoss
from losses_core.builder import build_loss, find_faults
from losses_core.errors import InputError
from losses_core.examples import Example, Path, example_config
from losses_core.registry import LOSSES

POINTS = 201


class Curve(NamedTuple):
    """One line of a plot.

    Attributes:
        loss: The name of the loss; empty where all lines are of one.
        options: The parameters that were varied, as text.
        line: Which line of the path, as text.
        x, value, gradient: As many numbers each.
    """

    loss: str
    options: str
    line: str
    x: list[float]
    value: list[float]
    gradient: list[float]

    @property
    def variant(self) -> str:
        """The loss and what was varied."""
        return ", ".join(filter(None, (self.loss, self.options)))


class Variant(NamedTuple):
    """A loss that is drawn: its name, its parameters that were varied as text, and itself."""

    name: str
    options: str
    loss: BaseLoss


def variants(names: Sequence[str], vary: Mapping[str, Sequence[Any]]) -> list[Variant]:
    """The losses with each combination of the values, of the parameters that they have.

    Raises:
        ConfigError: No loss has such a parameter, or one refuses a value.
        RegistryError: There is no such loss.
    """
    built = []
    known = {name: constructor_parameters(LOSSES[name]) for name in names}
    for name in known:
        own = {key: values for key, values in vary.items() if len(known) == 1 or _is_known(key, known, name)}
        for values in product(*own.values()):
            options = dict(zip(own, values, strict=True))
            config = {**example_config(name), **options}
            for fault in find_faults(config, "--vary"):
                raise fault
            torch.manual_seed(0)
            loss = cast("BaseLoss", build_loss(config))  # one type makes no combination
            text = ", ".join(f"{key}={value}" for key, value in options.items())
            built.append(Variant(name, text, loss.double().eval()))
    return built


def _is_known(key: str, known: Mapping[str, Mapping[str, Any]], name: str) -> bool:
    """Whether a loss has a parameter that may be another one's; what none has is left to the first, as a fault."""
    return key in known[name] or not any(key in parameters for parameters in known.values())


def common_path(losses: Sequence[Variant]) -> Path:
    """The path along which all losses are drawn.

    Raises:
        InputError: One has none, or two have different ones.
    """
    first, *others = ((variant.name, example_of(variant.loss)[1]) for variant in losses)
    for name, path in others:
        if _axes(path) != _axes(first[1]):
            raise InputError(
                f"{first[0]} is drawn along {first[1].x!r} and {name} along {path.x!r}: one picture takes losses that "
                "are drawn along the same."
            )
    return first[1]


def _axes(path: Path) -> tuple[Any, ...]:
    return path.x, path.per, path.span, list(path.lines)


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


def curves(losses: Sequence[Variant], step: Callable[[str], None]) -> Iterator[Curve]:
    """The lines of a plot, one for each loss and each line of its path; `step` is told before each."""
    several = len({variant.name for variant in losses}) > 1
    for name, options, loss in losses:
        example, path = example_of(loss)
        for line in path.lines:
            step(f"{name} {options} {line}".strip())
            yield Curve(name if several else "", options, line, *_along(loss, example, line, path.span))


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
