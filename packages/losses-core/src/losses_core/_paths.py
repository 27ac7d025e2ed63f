"""Paths through the inputs of a loss, for plots: inputs as a function of one number."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Inputs(NamedTuple):
    """The arguments of one call."""

    pred: Any
    target: Any
    call: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Path:
    """Inputs that depend on one number t.

    Args:
        x: What t is, with its unit: the label of the axis.
        per: What the gradient is taken by, in short.
        span: First and last t.
        lines: Label → `at(loss, t)`, which gives inputs in float64 for a 0-d tensor t; several, to compare.
    """

    x: str
    per: str
    span: tuple[float, float]
    lines: Mapping[str, Callable[[Any, Tensor], Inputs]]


def one_per_class(loss: Any) -> int | None:
    """The number of classes that the parameters of a loss ask for."""
    for name in loss._vectors:
        return len(getattr(loss, name))
    return getattr(loss, "num_classes", None)


def _double(*values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _margin(loss: Any, t: Tensor) -> Tensor:
    """Logits (1,C), the first class's t."""
    return torch.stack([t, *(torch.zeros_like(t) for _ in range((one_per_class(loss) or 2) - 1))])[None]


def _label(loss: Any, t: Tensor) -> Inputs:
    return Inputs(_margin(loss, t), torch.tensor([0]))


def _distribution(share: float) -> Callable[[Any, Tensor], Inputs]:
    def at(loss: Any, t: Tensor) -> Inputs:
        pred = _margin(loss, t)
        target = torch.full_like(pred, (1 - share) / (pred.shape[1] - 1)).detach()
        target[:, 0] = share
        return Inputs(pred, target)

    return at


def _logit(target: float) -> Callable[[Any, Tensor], Inputs]:
    def at(loss: Any, t: Tensor) -> Inputs:
        pred = t.expand(1, one_per_class(loss) or 1)
        return Inputs(pred, torch.full_like(pred, target).detach())

    return at


def _box(width: float) -> Callable[[Any, Tensor], Inputs]:
    """A box of height 1 over a unit square, in the loss's own format."""

    def at(loss: Any, t: Tensor) -> Inputs:
        centre, size = torch.stack([t, torch.zeros_like(t)]), _double(width, 1)
        return Inputs(_written(centre, size, loss), _written(_double(0, 0), _double(1, 1), loss))

    return at


def _written(centre: Tensor, size: Tensor, loss: Any) -> Tensor:
    kind = getattr(loss, "bbox_format", "xyxy")
    first = centre if kind in ("xywh", "cxcywh") else centre - size / 2
    return torch.cat([first, first + size if kind == "xyxy" else size])[None]


SIDE, RADIUS = 48, 8


def _disc(shift: Tensor | float) -> Tensor:
    """Signed distance (1,1,48,48) to the rim of a disc that is moved to the right: positive inside."""
    place = torch.arange(SIDE, dtype=torch.float64) - (SIDE - 1) / 2
    return (RADIUS - ((place[None, :] - shift) ** 2 + place[:, None] ** 2 + 1e-12).sqrt())[None, None]


def _two_channels(loss: Any, t: Tensor) -> Inputs:
    logits = 2 * _disc(t)
    others = [torch.full_like(logits, -20) for _ in range((one_per_class(loss) or 2) - 2)]
    return Inputs(torch.cat([torch.zeros_like(logits), logits, *others], 1), (_disc(0.0) > 0)[:, 0].long())


def _one_channel(loss: Any, t: Tensor) -> Inputs:
    return Inputs(2 * _disc(t), (_disc(0.0) > 0).double())


def _bell(target: float) -> Callable[[Any, Tensor], Inputs]:
    """Logits of a bell around the bin t, and a target position."""
    return lambda loss, t: Inputs(-((torch.arange(loss.reg_max + 1) - t) ** 2)[None] / 2, _double(target))


def _student(loss: Any, t: Tensor) -> Inputs:
    """Three classes; the student's logit of the first is t, all else as the teacher has it."""
    call = {"labels": torch.tensor([0])} if "labels" in loss.call_keywords() else {}
    return Inputs(torch.stack([t, torch.ones_like(t), torch.zeros_like(t)])[None], _double([2, 1, 0]), call)


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _noisy(loss: Any, t: Tensor) -> Inputs:
    """A feature map with noise t times as strong as the teacher's features."""
    channels = getattr(loss, "student_channels", None) or 4
    teacher = _normal(2, getattr(loss, "teacher_channels", None) or 4, 4, 4, seed=1)
    base = teacher if teacher.shape[1] == channels else _normal(2, channels, 4, 4, seed=3)
    return Inputs(base + t * _normal(2, channels, 4, 4, seed=2), teacher)


def _turned(loss: Any, t: Tensor) -> Inputs:
    """Rows that stand t degrees from the teacher's, each in a direction of its own."""
    teacher, side = torch.nn.functional.normalize(_normal(8, 6, seed=3)), _normal(8, 6, seed=4)
    side = torch.nn.functional.normalize(side - (side * teacher).sum(1, keepdim=True) * teacher)
    angle = t * math.pi / 180
    call = {"sample_idx": torch.arange(8)} if "sample_idx" in loss.call_keywords() else {}
    return Inputs(torch.cos(angle) * teacher + torch.sin(angle) * side, teacher, call)


MARGIN = Path("logit of the true class minus the others'", "the margin", (-5, 8), {"": _label})
MARGIN_OF_DISTRIBUTION = Path(
    "logit of the first class minus the others'",
    "the margin",
    (-5, 8),
    {f"target {share:g} for the first class": _distribution(share) for share in (1.0, 0.8, 0.5)},
)
LOGIT = Path("logit", "the logit", (-6, 6), {"target 1": _logit(1), "target 0": _logit(0)})
SCORE = Path("logit", "the logit", (-6, 6), {f"score {score:g}": _logit(score) for score in (0.0, 0.5, 0.9)})
ERROR = Path("error, in units of pred", "the error", (-3, 3), {"": lambda _, t: Inputs(t.reshape(1, 1), _double([0]))})
SHIFT = Path(
    "shift of the box, in widths of the target",
    "the shift",
    (-2.5, 2.5),
    {"box of the target's size": _box(1), "box twice as wide": _box(2)},
)
DISC = Path(f"shift of a disc of radius {RADIUS}, in pixels", "the shift", (-14, 14), {"": _two_channels})
MASK = Path(DISC.x, DISC.per, DISC.span, {"": _one_channel})
CENTRE = Path(
    "centre of the predicted distribution, in bins",
    "the centre",
    (0, 8),
    {f"target {place:g}": _bell(place) for place in (2.0, 4.5)},
)
STUDENT = Path("student's logit of one class (the teacher's is 2)", "the logit", (-4, 8), {"": _student})
NOISE = Path("distance from the teacher's features, in their standard deviation", "the distance", (-3, 3), {"": _noisy})
ANGLE = Path("angle between student and teacher, in degrees", "the angle", (0, 90), {"": _turned})
