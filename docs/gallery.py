"""Draw every registered loss: its value and its gradient against what it depends on.

`python docs/gallery.py [FOLDER] [--only NAME …] [--format svg|png]` writes two pictures per loss, one for light pages
and one for dark ones. The build of the site runs it. The table below says for each loss what is varied; a registered
loss without an entry is an error, and so is an entry without a loss.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import torch
from torch import Tensor

from losses_core import LOSSES, BaseLoss

mpl.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  # after the choice of the backend

DEFAULT_FOLDER = Path(__file__).parent / "_generated" / "gallery"


class Curve(NamedTuple):
    """One line of a plot.

    `at(t)` gives the arguments of the call, `(pred, target)` or `(pred, target, keywords)`, for a 0-d tensor t.
    """

    label: str
    at: Callable[[Tensor], tuple[Any, ...]]
    options: dict[str, Any] = {}


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


# ---------------------------------------------------------------------------------------------------------------------
# inputs


def double(*values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def margin(t: Tensor) -> Tensor:
    """Two logits (1,2), the true class's first."""
    return torch.stack([t, torch.zeros_like(t)])[None]


def label(t: Tensor) -> tuple[Tensor, Tensor]:
    return margin(t), torch.tensor([0])


def element(target: float) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """One logit (1,1) and its target."""
    return lambda t: (t.reshape(1, 1), double([target]))


def distribution(q: float) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    return lambda t: (margin(t), double([q, 1 - q]))


def box(width: float, height: float) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A box of this size, its centre t to the right of that of a unit square."""
    half = double(width / 2, height / 2)

    def at(t: Tensor) -> tuple[Tensor, Tensor]:
        centre = torch.stack([t, torch.zeros_like(t)])
        return torch.cat([centre - half, centre + half])[None], double([-0.5, -0.5, 0.5, 0.5])

    return at


def towards(degrees: float) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A unit square, t away from another in this direction."""
    direction = double(math.cos(math.radians(degrees)), math.sin(math.radians(degrees)))

    def at(t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cat([t * direction - 0.5, t * direction + 0.5])[None], double([-0.5, -0.5, 0.5, 0.5])

    return at


def aspect(shift: float) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A box of area 1 with width / height = 2ᵗ, beside a unit square."""

    def at(t: Tensor) -> tuple[Tensor, Tensor]:
        half, centre = torch.stack([2 ** (t / 2), 2 ** (-t / 2)]) / 2, double(shift, 0)
        return torch.cat([centre - half, centre + half])[None], double([-0.5, -0.5, 0.5, 0.5])

    return at


def error(t: Tensor) -> tuple[Tensor, Tensor]:
    return t.reshape(1, 1), torch.zeros(1, 1, dtype=torch.float64)


def bins(target: float) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """17 logits of a bell around t, and a target position."""
    return lambda t: (-((torch.arange(17) - t) ** 2)[None] / 2, double(target))


SIDE = 48


def disc(radius: float, shift: Tensor | float = 0.0) -> Tensor:
    """Signed distance (1,1,48,48) to the rim of a disc that is moved to the right: positive inside."""
    place = torch.arange(SIDE, dtype=torch.float64) - (SIDE - 1) / 2
    return (radius - ((place[None, :] - shift) ** 2 + place[:, None] ** 2 + 1e-12).sqrt())[None, None]


def one_channel(radius: float, sharpness: float = 2.0) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    return lambda t: (sharpness * disc(radius, t), (disc(radius) > 0).double())


def two_channels(radius: float, sharpness: float = 2.0) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Background and object, with class indices as target."""

    def at(t: Tensor) -> tuple[Tensor, Tensor]:
        logits = sharpness * disc(radius, t)
        return torch.cat([torch.zeros_like(logits), logits], 1), (disc(radius) > 0)[:, 0].long()

    return at


def mined(t: Tensor) -> tuple[Tensor, Tensor]:
    """Four pixels of class 0: one with margin t, three that are badly wrong, so that the first need not be kept."""
    rows = torch.stack([t, *double(-3, -3, -3)])
    return torch.stack([rows, torch.zeros_like(rows)]).reshape(1, 2, 2, 2), torch.zeros(1, 2, 2, dtype=torch.long)


def mined_binary(t: Tensor) -> tuple[Tensor, Tensor]:
    return torch.stack([t, *double(-3, -3, -3)]).reshape(1, 1, 2, 2), torch.ones(1, 1, 2, 2, dtype=torch.float64)


def against_teacher(t: Tensor) -> tuple[Tensor, Tensor]:
    return margin(t), double([2, 0])


def with_label(t: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Three classes; the target class's logit is varied."""
    zero = torch.zeros_like(t)
    return torch.stack([t, zero + 1, zero])[None], double([3, 0, 1]), {"labels": torch.tensor([0])}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def turned(teacher: Tensor, other: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A student whose rows stand t degrees from the teacher's."""
    base = teacher / teacher.norm(dim=1, keepdim=True)
    side = other - (other * base).sum(1, keepdim=True) * base
    side = side / side.norm(dim=1, keepdim=True)
    return lambda t: (torch.cos(t * math.pi / 180) * base + torch.sin(t * math.pi / 180) * side, base)


def beside(t: Tensor) -> tuple[Tensor, Tensor]:
    """A feature t away from a teacher's unit vector, at a right angle."""
    return torch.stack([torch.ones_like(t), t])[None], double([1, 0])


MAP = normal(1, 4, 4, 4, seed=1)


def one_location(t: Tensor) -> tuple[Tensor, Tensor]:
    """The teacher's feature map with one location scaled by t."""
    place = torch.zeros(4, 4, dtype=torch.float64)
    place[1, 2] = 1
    return MAP * (1 + (t - 1) * place), MAP


def noisy_map(t: Tensor) -> tuple[Tensor, Tensor]:
    return MAP + t * normal(1, 4, 4, 4, seed=2), MAP


POINTS = double([0, 0], [1, 0], [0.2, 1], [1.2, 1.3])


def one_point(t: Tensor) -> tuple[Tensor, Tensor]:
    """The teacher's four points in the plane, the first moved to the right by t."""
    return POINTS + torch.zeros_like(POINTS).index_put((torch.tensor(0), torch.tensor(0)), torch.ones(()).double()) * t, POINTS


# ---------------------------------------------------------------------------------------------------------------------
# the table

MARGIN = "logit of the true class minus the other"
SHIFT = "shift of the box, in widths of the target"
PIXELS = "shift of the predicted disc, in pixels"
SIZES = (
    Curve("same size", box(1, 1)),
    Curve("half as wide and high", box(0.5, 0.5)),
    Curve("twice as wide", box(2, 1)),
)
BOXES = "A box moves over a unit square. Gradients are with respect to the shift."
DISCS = "A predicted disc of radius 8 (or as named) moves over the true one, in an image of 48 × 48 pixels."


def elements(text: str, *curves: Curve, span: tuple[float, float] = (-6, 6), **more: Any) -> Plot:
    return Plot("logit", span, curves, text, **more)


TABLE: dict[str, Plot] = {
    # classification
    "CrossEntropyLoss": Plot(
        MARGIN,
        (-5, 8),
        tuple(Curve(f"label_smoothing={s}", label, {"label_smoothing": s}) for s in (0.0, 0.1, 0.3)),
        "Two classes. With smoothing the loss has its minimum at a finite margin: a more certain answer costs again.",
        gradient="the margin",
    ),
    "BinaryCrossEntropyLoss": elements(
        "One logit. `pos_weight` scales the positive side only.",
        Curve("target 1", element(1)),
        Curve("target 0", element(0)),
        Curve("target 1, pos_weight=3", element(1), {"pos_weight": 3.0}),
    ),
    "SoftCrossEntropyLoss": Plot(
        MARGIN,
        (-5, 8),
        tuple(Curve(f"target ({q:g}, {1 - q:g})", distribution(q)) for q in (1.0, 0.8, 0.5)),
        "Two classes. The minimum is where the prediction equals the target; its value is the target's entropy.",
        gradient="the margin",
    ),
    "FocalLoss": Plot(
        "probability of the true class",
        (-6, 6),
        tuple(Curve(f"gamma={g:g}", label, {"gamma": g, "alpha": None}) for g in (0.0, 1.0, 2.0, 5.0)),
        "Two classes, `alpha=None`. `gamma=0` is cross-entropy; a larger gamma turns away from what is right already.",
        axis=torch.sigmoid,
        gradient="the logit",
        limit=5,
    ),
    "BinaryFocalLoss": elements(
        "One logit with target 1 and with target 0, at the default `alpha=0.25`: negatives weigh three times as much.",
        Curve("target 1, gamma=2", element(1)),
        Curve("target 0, gamma=2", element(0)),
        Curve("target 1, gamma=0", element(1), {"gamma": 0.0}),
        Curve("target 0, gamma=0", element(0), {"gamma": 0.0}),
    ),
    "MultiLabelFocalLoss": elements(
        "One of many labels: target 1 for three values of `alpha`.",
        *(Curve(f"target 1, alpha={a}", element(1), {"alpha": a}) for a in (0.25, 0.5, 0.75)),
    ),
    "LabelSmoothLoss": Plot(
        MARGIN,
        (-5, 8),
        tuple(Curve(f"smoothing={s}", label, {"smoothing": s}) for s in (0.05, 0.1, 0.3)),
        "Two classes. The minimum moves towards smaller margins as the smoothing grows.",
        gradient="the margin",
    ),
    "AsymmetricLoss": elements(
        "One logit. Negatives below the probability margin `clip` cost nothing. The gradient does not pass through the "
        "focusing factor unless it is asked to, so it is not the slope of the curve on the left.",
        Curve("target 1", element(1)),
        Curve("target 0", element(0)),
        Curve("target 0, clip=0", element(0), {"clip": 0.0}),
        Curve("target 0, focus with gradient", element(0), {"disable_torch_grad_focal": False}),
        limit=5,
    ),
    "AsymmetricLossOptimized": elements(
        "The curves of `AsymmetricLoss`, with another `gamma_neg`.",
        Curve("target 1", element(1)),
        *(Curve(f"target 0, gamma_neg={g}", element(0), {"gamma_neg": g}) for g in (1, 2, 4)),
        limit=5,
    ),
    # detection
    "IoULoss": Plot(
        SHIFT,
        (-1.6, 1.6),
        tuple(Curve(f"mode='{mode}'", box(1, 1), {"mode": mode}) for mode in ("log", "linear", "square")),
        "A unit box moves over a unit square. From a shift of one width on they are disjoint and nothing has a gradient; "
        "`log` then stands at −ln(eps) = 13.8, above the picture.",
        gradient="the shift",
        limit=5,
        steepest=8,
    ),
    "GIoULoss": Plot(SHIFT, (-2.5, 2.5), SIZES, f"{BOXES} Disjoint boxes are drawn together.", gradient="the shift"),
    "DIoULoss": Plot(SHIFT, (-2.5, 2.5), SIZES, f"{BOXES} The distance of the centres counts.", gradient="the shift"),
    "CIoULoss": Plot(
        "aspect ratio of the box, log₂(width / height)",
        (-4, 4),
        tuple(Curve(f"{where}", aspect(shift)) for where, shift in (("in place", 0), ("half a width aside", 0.5), ("two widths aside", 2))),
        "A box of the target's area changes its shape. The penalty of the aspect ratio grows with the overlap.",
        gradient="log₂ of the ratio",
    ),
    "EIoULoss": Plot(SHIFT, (-2.5, 2.5), SIZES, f"{BOXES} Width and height count as well.", gradient="the shift"),
    "SIoULoss": Plot(
        "distance of the box, in widths of the target",
        (0, 2.5),
        tuple(Curve(f"towards {degrees}°", towards(degrees)) for degrees in (0, 20, 45)),
        "A unit box moves away from a unit square, along an axis or askew. Askew, the distance counts less: the box is to "
        "reach the nearer axis first.",
        gradient="the distance",
    ),
    "SmoothL1Loss": Plot(
        "error",
        (-3, 3),
        tuple(Curve(f"beta={b:g}", error, {"beta": b}) for b in (0.25, 1.0, 2.0)),
        "Quadratic within `beta`, linear beyond it.",
    ),
    "L1Loss": Plot("error", (-3, 3), (Curve("L1", error),), "The gradient is −1 or 1 everywhere but at 0."),
    "BalancedL1Loss": Plot(
        "error",
        (-3, 3),
        (
            Curve("alpha=0.5, gamma=1.5", error),
            Curve("alpha=0.2, gamma=1.5", error, {"alpha": 0.2}),
            Curve("alpha=0.5, gamma=1.5, beta=2", error, {"beta": 2.0}),
        ),
        "Small errors get more gradient than with smooth L1, large ones the constant `gamma`. Value and gradient are "
        "continuous for every `beta`.",
    ),
    "QualityFocalLoss": elements(
        "One logit and three qualities. The minimum is where the predicted score equals the quality.",
        *(Curve(f"quality {q}", element(q)) for q in (0.0, 0.5, 0.9)),
    ),
    "DistributionFocalLoss": Plot(
        "centre of the predicted distribution, in bins",
        (0, 16),
        tuple(Curve(f"target {y}", bins(y)) for y in (4.0, 7.5, 12.3)),
        "Seventeen bins with a bell around the centre. The loss draws the mass to the two bins beside the target.",
        gradient="the centre",
        limit=30,
    ),
    "VariFocalLoss": elements(
        "One logit. Positives are weighted by their quality q, negatives (q = 0) by α pᵞ.",
        *(Curve(f"q = {q}", element(q)) for q in (0.0, 0.5, 0.9)),
    ),
    # segmentation
    "DiceLoss": Plot(
        PIXELS,
        (-14, 14),
        (
            Curve("radius 8", two_channels(8)),
            Curve("radius 8, naive_dice=True", two_channels(8), {"naive_dice": True}),
            Curve("radius 3", two_channels(3)),
        ),
        f"{DISCS} Background and object, averaged.",
        gradient="the shift",
    ),
    "BinaryDiceLoss": Plot(
        PIXELS,
        (-14, 14),
        (
            Curve("radius 8", one_channel(8)),
            Curve("radius 3", one_channel(3)),
            Curve("radius 3, smooth=100", one_channel(3), {"smooth": 100.0}),
        ),
        f"{DISCS} A large `smooth` hides small objects.",
        gradient="the shift",
    ),
    "GeneralizedDiceLoss": Plot(
        PIXELS,
        (-14, 14),
        tuple(Curve(f"weight_type='{kind}'", two_channels(4), {"weight_type": kind}) for kind in ("square", "simple", "uniform")),
        "A disc of radius 4 moves over the true one. The more a class is weighted by its rareness, the more the small "
        "object counts beside the background.",
        gradient="the shift",
    ),
    "LovaszLoss": Plot(
        PIXELS,
        (-14, 14),
        (Curve("radius 8", two_channels(8)), Curve("radius 3", two_channels(3))),
        f"{DISCS} The mean over background and object.",
        gradient="the shift",
    ),
    "LovaszHingeLoss": Plot(
        PIXELS,
        (-14, 14),
        (Curve("radius 8", one_channel(8)), Curve("radius 3", one_channel(3))),
        f"{DISCS} Raw logits: a hinge, so the value is not bounded by 1.",
        gradient="the shift",
    ),
    "BoundaryLoss": Plot(
        PIXELS,
        (-14, 14),
        tuple(Curve(f"theta={theta}", two_channels(8, 1.0), {"theta": theta}) for theta in (3, 5, 9)),
        f"{DISCS} Only contours count. The wider the tolerance `theta`, the further away a contour is noticed.",
        gradient="the shift",
    ),
    "HDLoss": Plot(
        PIXELS,
        (-14, 14),
        tuple(Curve(f"alpha={alpha:g}", two_channels(5), {"alpha": alpha}) for alpha in (1.0, 1.5, 2.0)),
        "A disc of radius 5 moves over the true one. Errors are weighted by their distance to the contours, to the power "
        "`alpha`. No gradient passes through the distances, so it is not the slope of the curve on the left.",
        gradient="the shift",
    ),
    "OHEMCrossEntropyLoss": Plot(
        "probability of the true class",
        (-5, 5),
        tuple(Curve(f"thresh={th}", mined, {"thresh": th, "min_kept": 1, "reduction": "none"}) for th in (0.5, 0.7, 0.9)),
        "One pixel beside three that are worse. It counts while its probability is below `thresh`.",
        axis=torch.sigmoid,
        gradient="the logit",
        part=(0, 0, 0),
        points=401,
    ),
    "OHEMBinaryLoss": Plot(
        "probability of the truth",
        (-5, 5),
        tuple(Curve(f"thresh={th}", mined_binary, {"thresh": th, "min_kept": 1, "reduction": "none"}) for th in (0.5, 0.7, 0.9)),
        "One pixel beside three that are worse. It counts while its probability is below `thresh`.",
        axis=torch.sigmoid,
        gradient="the logit",
        part=(0, 0, 0),
        points=401,
    ),
    # distillation
    "KnowledgeDistillationLoss": Plot(
        "student's margin",
        (-6, 8),
        (
            *(Curve(f"temperature={T:g}", against_teacher, {"temperature": T}) for T in (1.0, 4.0)),
            Curve("temperature=1, reverse", against_teacher, {"temperature": 1.0, "kl_direction": "reverse"}),
        ),
        "Two classes; the teacher's margin is 2. Reverse, the cost of being too certain grows and that of the opposite shrinks.",
    ),
    "DKDLoss": Plot(
        "student's logit of the target class",
        (-4, 8),
        (
            Curve("alpha=1, beta=8", with_label),
            Curve("alpha=1, beta=0", with_label, {"beta": 0.0}),
            Curve("alpha=0, beta=1", with_label, {"alpha": 0.0, "beta": 1.0}),
        ),
        "Three classes. The part between the other classes (beta) does not depend on the logit of the target class.",
    ),
    "DISTLoss": Plot(
        "angle between student and teacher, in degrees",
        (0, 180),
        (
            Curve("rows and columns", turned(normal(6, 5, seed=3), normal(6, 5, seed=4))),
            Curve("rows alone (gamma=0)", turned(normal(6, 5, seed=3), normal(6, 5, seed=4)), {"gamma": 0.0}),
            Curve("columns alone (beta=0)", turned(normal(6, 5, seed=3), normal(6, 5, seed=4)), {"beta": 0.0}),
        ),
        "Six samples of five classes, turned away from the teacher's logits.",
        gradient="the angle",
        points=61,
    ),
    "FeatureMSELoss": Plot(
        "distance from the teacher's feature",
        (-3, 3),
        (Curve("normalize=False", beside), Curve("normalize=True", beside, {"normalize": True})),
        "A feature beside a unit vector. Normalised, only the direction counts, and the loss is bounded.",
        gradient="the distance",
    ),
    "FeatureL1Loss": Plot(
        "distance from the teacher's feature",
        (-3, 3),
        (Curve("normalize=False", beside), Curve("normalize=True", beside, {"normalize": True})),
        "A feature beside a unit vector. Normalised, only the direction counts, and the loss is bounded.",
        gradient="the distance",
    ),
    "FeatureCosineLoss": Plot(
        "angle between student and teacher, in degrees",
        (-180, 180),
        (Curve("1 − cos", turned(double([1, 0]), double([0, 1]))),),
        "The length of the features does not count.",
        gradient="the angle",
    ),
    "AttentionLoss": Plot(
        "student's activation at one location, relative to the teacher's",
        (0, 3),
        tuple(Curve(f"p={p:g}", one_location, {"p": p}) for p in (1.0, 2.0, 4.0)),
        "One of sixteen locations of a feature map is scaled. A larger power p turns to the strongest activations.",
        gradient="the activation",
    ),
    "MGDLoss": Plot(
        "distance of the student's features from the teacher's",
        (-3, 3),
        tuple(Curve(f"lambda_mgd={share:g}", noisy_map, {"lambda_mgd": share, "student_channels": 4, "teacher_channels": 4}) for share in (0.0, 0.65)),
        "With the generator as it is initialised, so the minimum is not at 0: training moves it there.",
        gradient="the distance",
    ),
    "RKDDistanceLoss": Plot(
        "one of four points moved by",
        (-2, 2),
        (Curve("distances", one_point), Curve("squared=True", one_point, {"squared": True})),
        "Four points in the plane; one moves away from where the teacher has it.",
        gradient="the point",
    ),
    "RKDAngleLoss": Plot(
        "one of four points moved by",
        (-2, 2),
        (Curve("angles", one_point),),
        "Four points in the plane; one moves away from where the teacher has it.",
        gradient="the point",
    ),
    "PKTLoss": Plot(
        "angle between student and teacher, in degrees",
        (0, 90),
        (Curve("PKT", turned(normal(6, 5, seed=3), normal(6, 5, seed=4))),),
        "Six features, turned away from the teacher's.",
        gradient="the angle",
        points=61,
    ),
    "CRDLoss": Plot(
        "angle between student and teacher, in degrees",
        (0, 90),
        tuple(
            Curve(f"temperature={tau:g}", turned(normal(8, 6, seed=3), normal(8, 6, seed=4)), {"mode": "batch", "temperature": tau})
            for tau in (0.07, 0.2, 0.5)
        ),
        "`mode='batch'` with eight samples, turned away from the teacher's features.",
        gradient="the angle",
        points=61,
    ),
}


# ---------------------------------------------------------------------------------------------------------------------
# drawing

THEMES = {
    "light": {"text": "#24292f", "grid": "#d8dee4", "lines": ("#0969da", "#bc4c00", "#1a7f37", "#8250df")},
    "dark": {"text": "#d1d7e0", "grid": "#3d444d", "lines": ("#6cb6ff", "#f69d50", "#6bc46d", "#dcbdfb")},
}
STYLES = ("-", "--", "-.", ":")
Drawn = tuple[str, Tensor, Tensor, Tensor]


def registered() -> dict[str, type[BaseLoss]]:
    """The losses of the installed packages by the name of their class: an alias is no loss of its own."""
    packaged = [name for name in LOSSES if LOSSES.describe(name).distribution is not None]
    return {LOSSES[name].__name__: LOSSES[name] for name in packaged}


def gaps() -> list[str]:
    """What of the table and the registry does not fit together."""
    known = registered()
    lacking = [f"{name} is registered and has no plot: add it to TABLE in {Path(__file__).name}" for name in known if name not in TABLE]
    return lacking + [f"TABLE has a plot of {name}, which no installed package declares" for name in TABLE if name not in known]


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


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=DEFAULT_FOLDER)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="draw these losses")
    parser.add_argument("--format", choices=("svg", "png"), default="svg")
    arguments = parser.parse_args()
    found = [] if arguments.only else gaps()
    for gap in found:
        sys.stderr.write(f"{gap}\n")
    if not found:
        generate(arguments.folder, arguments.only, arguments.format)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
