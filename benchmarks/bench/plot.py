"""The picture of the page: a ratio per case, in light and dark."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

from bench.page import PICTURE, compiled, eager
from bench.results import CaseResult
from bench.stats import Spread

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

LIGHT = {"text": "#24292f", "grid": "#d8dee4", "eager": "#0969da", "compiled": "#bc4c00"}
DARK = {"text": "#d1d7e0", "grid": "#3d444d", "eager": "#6cb6ff", "compiled": "#f69d50"}
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
ROW = 0.165
"""Inches of a case."""


def draw(cases: Sequence[CaseResult], folder: Path) -> None:
    """Write the picture for both themes."""
    folder.mkdir(parents=True, exist_ok=True)
    light, dark = (folder / f"{PICTURE}-{theme}.svg" for theme in ("light", "dark"))
    _draw(cases, light)
    swap = {LIGHT[key]: DARK[key] for key in LIGHT}
    dark.write_text(re.sub("|".join(swap), lambda found: swap[found[0]], light.read_text()))


def _draw(cases: Sequence[CaseResult], path: Path) -> None:
    colours = LIGHT
    settings: Any = {
        "svg.hashsalt": PICTURE,  # the same picture for the same numbers
        "svg.fonttype": "none",
        "font.size": 8,
        "text.color": colours["text"],
        "axes.edgecolor": colours["grid"],
        "axes.labelcolor": colours["text"],
        "xtick.color": colours["text"],
        "ytick.color": colours["text"],
        "grid.color": colours["grid"],
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    groups = {
        package: [c for c in cases if c.package == package] for package in dict.fromkeys(c.package for c in cases)
    }
    with mpl.rc_context(settings):
        figure, axes = plt.subplots(
            len(groups),
            1,
            figsize=(8, ROW * len(cases) + 0.45 * len(groups) + 0.6),
            height_ratios=[len(group) + 1 for group in groups.values()],
            sharex=True,
            squeeze=False,
            layout="constrained",
        )
        for axis, (package, group) in zip(axes[:, 0], groups.items(), strict=True):
            axis.set_title(package, fontsize=9, loc="left")
            axis.axvline(1, color=colours["text"], linewidth=0.8)
            for shift, marker, colour, label, ratio in (
                (-0.12, "o", colours["eager"], "eager", eager),
                (0.12, "D", colours["compiled"], "compiled", compiled),
            ):
                found = {row: value for row, case in enumerate(group) if (value := ratio(case))}
                _points(axis, found, shift, marker, colour, label)
            axis.set_yticks(range(len(group)), [case.name for case in group])
            axis.set_ylim(len(group) - 0.4, -0.6)
            axis.set_xscale("log")
            axis.grid(linewidth=0.5)
            axis.set_axisbelow(True)
            axis.tick_params(length=0)
            axis.minorticks_off()
        low, high = axes[-1, 0].get_xlim()
        axes[-1, 0].set_xticks([t for t in TICKS if low <= t <= high], [f"{t:g}" for t in TICKS if low <= t <= high])
        axes[-1, 0].set_xlabel(
            "time of this library / time of the fastest other library (left of 1: this library is faster)"
        )
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=2, frameon=False)
        figure.savefig(path, transparent=True, metadata={"Date": None})
        plt.close(figure)


def _points(axis: Axes, found: dict[int, Spread], shift: float, marker: str, colour: str, label: str) -> None:
    values = list(found.values())
    axis.errorbar(
        [value.median for value in values],
        [row + shift for row in found],
        xerr=[[v.median - v.low for v in values], [v.high - v.median for v in values]],
        fmt=marker,
        color=colour,
        markersize=3.5,
        linewidth=0.9,
        label=label,
    )
