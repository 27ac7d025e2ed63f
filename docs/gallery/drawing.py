"""Evaluate a loss along its plot, and draw it in light and dark."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import matplotlib as mpl
import torch
from torch import Tensor

from gallery.plot import Plot
from gallery.table import TABLE, registered
from losses_core import BaseLoss

mpl.use("Agg")
import matplotlib.pyplot as plt

THEMES = {
    "light": {"text": "#24292f", "grid": "#d8dee4", "lines": ("#0969da", "#bc4c00", "#1a7f37", "#8250df")},
    "dark": {"text": "#d1d7e0", "grid": "#3d444d", "lines": ("#6cb6ff", "#f69d50", "#6bc46d", "#dcbdfb")},
}
STYLES = ("-", "--", "-.", ":")
Drawn = tuple[str, Tensor, Tensor, Tensor]


def evaluate(cls: type[BaseLoss], plot: Plot) -> list[Drawn]:
    """For each curve its label, the places on the axis, the values and the derivatives with respect to t."""
    drawn = []
    for curve in plot.curves:
        torch.manual_seed(0)
        loss = cls(**curve.options).double()
        values, slopes = [], []
        places = torch.linspace(*plot.span, plot.points, dtype=torch.float64)
        for place in places:
            t = place.clone().requires_grad_()
            pred, target, *keywords = curve.at(t)
            torch.manual_seed(0)
            value = loss(pred, target, **(keywords[0] if keywords else {}))
            value = value if plot.part is None else value[plot.part]
            (slope,) = torch.autograd.grad(value, t, materialize_grads=True)
            values.append(value.detach())
            slopes.append(slope)
        shown = places if plot.axis is None else plot.axis(places)
        drawn.append((curve.label, shown, torch.stack(values), torch.stack(slopes)))
    return drawn


def draw(name: str, plot: Plot, drawn: list[Drawn], theme: str, path: Path) -> None:
    """Write the picture of one loss in one theme."""
    colours = THEMES[theme]
    settings = {
        "svg.hashsalt": name,  # the same picture for the same input
        "font.size": 9,
        "text.color": colours["text"],
        "axes.labelcolor": colours["text"],
        "axes.edgecolor": colours["grid"],
        "xtick.color": colours["text"],
        "ytick.color": colours["text"],
        "grid.color": colours["grid"],
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with mpl.rc_context(settings):
        figure, axes = plt.subplots(1, 2, figsize=(8, 2.9), layout="constrained")
        of = plot.gradient or plot.x.partition(",")[0]
        for axis, column, title in ((axes[0], 2, "value"), (axes[1], 3, f"gradient with respect to {of}")):
            for curve, colour, style in zip(drawn, colours["lines"], STYLES, strict=False):
                axis.plot(curve[1], curve[column], style, color=colour, linewidth=1.8, label=curve[0])
            axis.set_title(title, fontsize=9, loc="left")
            axis.set_xlabel(plot.x)
            axis.grid(linewidth=0.6)
            axis.set_axisbelow(True)
        if plot.limit is not None:
            axes[0].set_ylim(top=plot.limit)
        if plot.steepest is not None:
            axes[1].set_ylim(-plot.steepest, plot.steepest)
        if len(drawn) > 1:
            figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=4, frameon=False)
        figure.savefig(path, transparent=True, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)
        plt.close(figure)


def darkened(picture: str) -> str:
    """The light SVG in the colours of the dark theme."""
    light, dark = (dict(zip("tg0123", (c["text"], c["grid"], *c["lines"]), strict=True)) for c in THEMES.values())
    swap = {light[key]: dark[key] for key in light}
    return re.sub("|".join(swap), lambda found: swap[found[0]], picture)


def generate(folder: Path, names: Iterable[str] | None = None, kind: str = "svg") -> None:
    """Draw these losses, by default all that are registered, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    known = registered()
    for name in known if names is None else names:
        drawn = evaluate(known[name], TABLE[name])
        light, dark = (folder / f"{name}-{theme}.{kind}" for theme in THEMES)
        draw(name, TABLE[name], drawn, "light", light)
        if kind == "svg":  # half the time of drawing it again
            dark.write_text(darkened(light.read_text()))
        else:
            draw(name, TABLE[name], drawn, "dark", dark)
