"""The picture of a run: the terms of the loss, the score, and some of the test data."""

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


def save_curves(task: Task, history: History, path: Path) -> Path:
    """Draw the three panels and write them as PNG."""
    with plt.style.context(STYLE):
        figure, (left, middle, right) = plt.subplots(
            1, 3, figsize=(13.5, 4), layout="constrained", width_ratios=[1.15, 1, 1]
        )
        _terms(left, history)
        _score(middle, task, history)
        task.draw(right)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
        plt.close(figure)
    return path


def _terms(axes: Axes, history: History) -> None:
    epochs = range(1, len(history.score) + 1)
    for name, values in history.terms.items():
        if name == "total":
            axes.plot(epochs, values, color=INK, linestyle="--", linewidth=1.5, label=name)
        else:
            axes.plot(epochs, values, label=name)
    axes.set(yscale="log", xlabel="epoch", title="weighted terms of the training loss")
    axes.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axes.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    axes.legend()


def _score(axes: Axes, task: Task, history: History) -> None:
    epochs = range(1, len(history.score) + 1)
    axes.plot(epochs, history.score, color=COLOURS[2])
    axes.axhline(task.goal, color=RED, linestyle=":", linewidth=1.5)
    above: dict[str, Any] = {"xytext": (0, 5), "textcoords": "offset points", "ha": "right", "va": "bottom"}
    axes.annotate(f"{history.score[-1]:.1%}", (epochs[-1], history.score[-1]), **above)
    axes.annotate(
        f"goal {task.goal:.0%}", (epochs[-1], task.goal), color=RED, **above | {"xytext": (0, -4), "va": "top"}
    )
    axes.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1, decimals=0))
    axes.set(xlabel="epoch", title=f"{task.metric} on the test digits")
    axes.margins(y=0.12)


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
