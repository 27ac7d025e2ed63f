"""The plots of all families, and the losses they are of."""

from __future__ import annotations

import inspect

from gallery import classification, detection, distillation, segmentation
from gallery.plot import Curve, Plot
from losses_core import LOSSES, BaseLoss


def registered() -> dict[str, type[BaseLoss]]:
    """The losses of the installed packages by the name of their class: an alias is no loss of its own."""
    packaged = [name for name in LOSSES if LOSSES.describe(name).distribution is not None]
    return {LOSSES[name].__name__: LOSSES[name] for name in packaged}


def from_example(cls: type[BaseLoss]) -> Plot | None:
    """A plot along the path of a loss's example, with its default parameters; None where it has no such path."""
    example = cls.example
    required = [p for p in inspect.signature(cls).parameters.values() if p.default is inspect.Parameter.empty]
    if example is None or example.path is None or required:
        return None
    loss, path = cls(), example.path

    def curve(line: str) -> Curve:
        return Curve(line, lambda t: example.at(loss, line, t))

    text = "With its parameters at their defaults."
    return Plot(path.x, path.span, tuple(map(curve, path.lines)), text, gradient=path.per)


OWN: dict[str, Plot] = classification.PLOTS | detection.PLOTS | segmentation.PLOTS | distillation.PLOTS

TABLE: dict[str, Plot] = OWN | {
    name: plot for name, cls in registered().items() if name not in OWN and (plot := from_example(cls)) is not None
}
"""The plot of each loss: what a family says of it, else one along the path of its example."""


def gaps() -> list[str]:
    """What of the table and the registry does not fit together."""
    known = registered()
    lacking = [
        f"{name} is registered and has no plot: give the class an example with a path, or add it to PLOTS of its "
        "family in docs/gallery"
        for name in known
        if name not in TABLE
    ]
    return lacking + [
        f"TABLE has a plot of {name}, which no installed package declares" for name in TABLE if name not in known
    ]
