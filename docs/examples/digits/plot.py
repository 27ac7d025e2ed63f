"""The picture of a run: the terms of the loss, the score, and some of the test data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes

from .training import History, Task

matplotlib.use("Agg")  # a file, never a window

import matplotlib.pyplot as plt  # after the choice above

INK, GRID, RED = "#333333", "#e3e3e3", "#c8102e"
COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9"]  # apart for colour-blind eyes as well
CLASSES = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"]
"""One colour for each of the ten digits."""
STYLE: dict[str, Any] = {
    "axes.edgecolor": "#999999",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "font.size": 10,
    "grid.color": GRID,
    "legend.frameon": False,
    "lines.linewidth": 2,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def colours(losses: int) -> list[str]:
    """One for each loss of a comparison: the same in every panel, the loss of the file in the last one."""
    return [*COLOURS[: losses - 1], RED]


def save_curves(trained: Mapping[str, Task], histories: Mapping[str, History], path: Path) -> Path:
    """Draw the three panels and write them as PNG. The loss of the file comes last."""
    label, task = list(trained.items())[-1]
    with plt.style.context(STYLE):
        figure, (left, middle, right) = plt.subplots(
            1, 3, figsize=(15, 4.4), layout="constrained", width_ratios=[1, 1, 1.1]
        )
        figure.suptitle(task.title, x=0.01, ha="left", fontsize=12)
        _terms(left, label, histories[label])
        _scores(middle, task, histories)
        task.draw(right, trained)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)
        plt.close(figure)
    return path


def _terms(axes: Axes, label: str, history: History) -> None:
    epochs = range(1, len(history.score) + 1)
    shown = history.terms if len(history.terms) > 2 else {"total": history.terms["total"]}  # of one term: the same
    for name, values in shown.items():
        style: dict[str, Any] = {"color": INK, "linestyle": "--", "linewidth": 1.5} if name == "total" else {}
        axes.plot(epochs, values, label=name, **style)
    axes.set(yscale="log", xlabel="epoch", ylabel="log scale", title=f"training loss: {label}")
    axes.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axes.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    axes.legend()


def _scores(axes: Axes, task: Task, histories: Mapping[str, History]) -> None:
    dashes = ["-", "--", "-.", ":"]
    for number, ((label, history), colour) in enumerate(zip(histories.items(), colours(len(histories)), strict=True)):
        last = number == len(histories) - 1  # drawn below the others, so that equal curves are all seen
        style: dict[str, Any] = {"linestyle": "-" if last else dashes[number % 4], "zorder": 2 if last else 3}
        axes.plot(range(1, len(history.score) + 1), history.score, color=colour, label=label, linewidth=1.8, **style)
    axes.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1, decimals=0))
    axes.set(xlabel="epoch", ylim=(0, 1.02), title=f"{task.metric} on the test digits")
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    axes.legend(loc="best", fontsize=9, handlelength=3)


def tile(
    axes: Axes, images: np.ndarray, captions: list[tuple[str, bool]], title: str, rows: int = 4, columns: int = 6
) -> None:
    """A grid of small images, each with a caption that is red where the second of the pair is False."""
    height, width = images.shape[1:3]
    gap = height // 2
    canvas = np.ones((rows * (height + gap), columns * (width + 1)))
    for k, (image, (caption, right)) in enumerate(zip(images[: rows * columns], captions, strict=False)):
        top, left = (k // columns) * (height + gap), (k % columns) * (width + 1)
        canvas[top : top + height, left : left + width] = 1 - image
        axes.text(left + width / 2, top + height, caption, ha="center", va="top", color=INK if right else RED)
    axes.imshow(canvas, cmap="gray", vmin=0, vmax=1)
    axes.set(title=title)
    axes.axis("off")
