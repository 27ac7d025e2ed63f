"""Inputs that a loss takes: what `losses probe`, `losses plot` and `losses doctor --device` call it with.

A loss class says which kind it takes in one line, ``example = examples.LABELS``. A plug-in whose losses take something
else makes an `Example` of its own: a function that draws inputs, a shape, and, for `plot`, a `Path` through them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from losses_core import _paths
from losses_core._paths import Inputs, Path, one_per_class
from losses_core.errors import InputError
from losses_core.registry import LOSSES

__all__ = [
    "BINARY",
    "BINS",
    "BOXES",
    "CORRELATED",
    "DISTRIBUTIONS",
    "EMBEDDINGS",
    "FEATURES",
    "LABELS",
    "LOGITS",
    "MASKS",
    "PIXELS",
    "QUALITY",
    "SCORES",
    "VALUES",
    "Draw",
    "Example",
    "Inputs",
    "Path",
]

Shape = tuple[int, ...]

BLOCK = 8
"""Side of the areas of one label, in pixels: noise has no objects and no contours."""


class Draw(NamedTuple):
    """Random numbers of the shapes that were asked for.

    Attributes:
        generator: Where they come from.
        pred: The shape of pred.
        target: The shape of target, where the user gave one.
    """

    generator: torch.Generator
    pred: Shape
    target: Shape | None = None

    def normal(self, shape: Shape) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(shape, generator=self.generator, device=self.generator.device)

    def uniform(self, shape: Shape) -> Tensor:
        """Numbers in [0, 1)."""
        return torch.rand(shape, generator=self.generator, device=self.generator.device)

    def labels(self, classes: int, shape: Shape, *, space: int = 1) -> Tensor:
        """Class indices, in blocks along the axes from `space` on."""
        coarse = tuple(-(-side // BLOCK) if axis >= space else side for axis, side in enumerate(shape))
        labels = torch.randint(classes, coarse, generator=self.generator, device=self.generator.device)
        for axis in range(space, len(shape)):
            labels = labels.repeat_interleave(BLOCK, axis).narrow(axis, 0, shape[axis])
        return labels

    def places(self) -> Shape:
        """The shape of pred (N,C,*S) without its axis of classes."""
        if len(self.pred) < 2:
            raise InputError(f"expected a pred of two axes or more, as 8x10; got {'x'.join(map(str, self.pred))}.")
        return (self.pred[0], *self.pred[2:])


@dataclasses.dataclass(frozen=True)
class Example:
    """One kind of inputs.

    Args:
        make: `make(loss, draw)` gives inputs for a loss, of the shape `draw.pred`.
        shape: The shape of pred, where the user gives none.
        path: For `losses plot`: inputs that depend on one number.
        size: `size(loss)`: the length of axis 1 that a loss asks for by its parameters, or None.
        group: Losses whose examples name one group predict from the same tensor where they are combined, so they get
            one shape: the longest, with the size that one of them asks for. Empty: each has its own.
        probabilities: (parameter, value): a loss with this value takes probabilities in place of logits.
        options: Parameters to build the loss with, for one that needs some.

    Example:
        >>> from losses_core import BaseLoss, examples
        >>> class RatioLoss(BaseLoss):
        ...     example = examples.Example(
        ...         lambda loss, draw: examples.Inputs(1 + draw.uniform(draw.pred), 1 + draw.uniform(draw.pred)),
        ...         shape=(8,),
        ...     )
        ...     def _forward(self, pred, target):
        ...         return (pred / target).log().abs()
        >>> RatioLoss.example.inputs(RatioLoss()).pred.shape
        torch.Size([8])
    """

    make: Callable[[Any, Draw], Inputs]
    shape: Shape
    path: Path | None = None
    size: Callable[[Any], int | None] = lambda loss: None
    group: str = ""
    probabilities: tuple[str, Any] | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def probabilities_if(self, parameter: str, value: Any) -> Example:
        """This kind for a loss that takes probabilities where one of its parameters has this value."""
        return dataclasses.replace(self, probabilities=(parameter, value))

    def built_with(self, **options: Any) -> Example:
        """This kind for a loss that has parameters without a default."""
        return dataclasses.replace(self, options=options)

    def inputs(self, loss: Any, pred: Shape | None = None, target: Shape | None = None, seed: int = 0) -> Inputs:
        """Inputs for a loss.

        Args:
            loss: The loss.
            pred: Shape of pred; by default the example's, with the size that the loss asks for.
            target: Shape of target; by default what goes with pred.
            seed: The same seed and shapes give the same numbers.

        Raises:
            InputError: The shape of pred does not fit this kind.
        """
        if pred is None:
            size = self.size(loss)
            pred = self.shape if size is None else (self.shape[0], size, *self.shape[2:])
        return self._finished(loss, self.make(loss, Draw(torch.Generator().manual_seed(seed), pred, target)))

    def at(self, loss: Any, line: str, t: Tensor) -> Inputs:
        """The inputs at the point t of one of the path's lines."""
        if self.path is None:
            raise InputError(f"{type(loss).__name__}: its example has no path to draw along.")
        return self._finished(loss, self.path.lines[line](loss, t))

    def _finished(self, loss: Any, inputs: Inputs) -> Inputs:
        if self.probabilities is None or getattr(loss, self.probabilities[0]) != self.probabilities[1]:
            return inputs
        exclusive = self.group == "logits" and inputs.pred.shape[1] > 1
        return inputs._replace(pred=inputs.pred.softmax(1) if exclusive else inputs.pred.sigmoid())


def example_config(name: str) -> dict[str, Any]:
    """The config of a loss by its name, with the parameters that its example gives.

    Raises:
        RegistryError: There is no such loss.
    """
    example = LOSSES[name].example
    return {"type": name, **({} if example is None else example.options)}


def _labels(loss: Any, draw: Draw) -> Inputs:
    """Logits (N,C,*S) and class indices (N,*S), or distributions where the target is asked for in pred's shape."""
    pred, places = draw.normal(draw.pred), draw.places()
    if draw.target == draw.pred:
        return Inputs(pred, draw.normal(draw.pred).softmax(1))
    return Inputs(pred, draw.labels(draw.pred[1], draw.target or places))


def _distributions(loss: Any, draw: Draw) -> Inputs:
    return _labels(loss, draw._replace(target=draw.pred))


def _binary(loss: Any, draw: Draw) -> Inputs:
    """Logits of any shape, and 0 or 1 for each."""
    pred = draw.normal(draw.pred)
    return Inputs(pred, draw.labels(2, draw.target or draw.pred, space=2).float())


def _scores(loss: Any, draw: Draw) -> Inputs:
    """Logits, and for each a score in [0, 1), three of four 0."""
    pred, shape = draw.normal(draw.pred), draw.target or draw.pred
    return Inputs(pred, draw.uniform(shape) * (draw.uniform(shape) < 0.25))


def _quality(loss: Any, draw: Draw) -> Inputs:
    """Logits (N,C), and labels with their scores, a pair of (N,); the label C is background."""
    if draw.target == draw.pred:
        return _scores(loss, draw)
    pred, places = draw.normal(draw.pred), draw.places()
    return Inputs(pred, (draw.labels(draw.pred[1] + 1, places), draw.uniform(places)))


def _values(loss: Any, draw: Draw) -> Inputs:
    """Numbers and numbers."""
    return Inputs(draw.normal(draw.pred), draw.normal(draw.target or draw.pred))


def _boxes(loss: Any, draw: Draw) -> Inputs:
    """Boxes (…,4) that mostly overlap; the numbers are boxes in corners as well as by centre and size."""
    if draw.pred[-1] != 4:
        raise InputError(f"expected a pred of boxes, as 8x4; got {'x'.join(map(str, draw.pred))}.")
    low, high = torch.tensor([0.0, 0, 10, 10]), torch.tensor([8.0, 8, 24, 24])
    pred, target = (low + (high - low) * draw.uniform(shape) for shape in (draw.pred, draw.target or draw.pred))
    return Inputs(pred, target)


def _bins(loss: Any, draw: Draw) -> Inputs:
    """Logits (…,bins), and positions in [0, bins - 1)."""
    last = loss.reg_max
    target = draw.target or (
        draw.pred[:-1] if draw.pred[-1] == last + 1 else (*draw.pred[:-1], draw.pred[-1] // (last + 1))
    )
    return Inputs(draw.normal(draw.pred), last * draw.uniform(target))


def _logits(loss: Any, draw: Draw) -> Inputs:
    """Logits of student and teacher; labels, where a call takes them."""
    pred, target = draw.normal(draw.pred), draw.normal(draw.target or draw.pred)
    if "labels" not in loss.call_keywords():
        return Inputs(pred, target)
    return Inputs(pred, target, {"labels": draw.labels(draw.pred[1], draw.places())})


def _features(loss: Any, draw: Draw) -> Inputs:
    """Features (N,C,*S), tokens (N,L,C) or vectors (N,C) of student and teacher."""
    axis = 2 if len(draw.pred) == 3 else 1
    target, width = list(draw.pred), getattr(loss, "teacher_channels", None)
    if width is not None:
        target[axis] = width
    return Inputs(draw.normal(draw.pred), draw.normal(draw.target or tuple(target)))


def _embeddings(loss: Any, draw: Draw) -> Inputs:
    """Vectors (N,D) of student and teacher; which image each is, where a call takes it."""
    inputs = _features(loss, draw)
    if "sample_idx" not in loss.call_keywords():
        return inputs
    images = getattr(loss, "num_samples", None) or draw.pred[0]
    return inputs._replace(call={"sample_idx": torch.arange(draw.pred[0]) % images})


def _channels(loss: Any) -> int | None:
    return getattr(loss, "student_channels", None)


LABELS = Example(_labels, (8, 10), _paths.MARGIN, one_per_class, "logits")
"""Logits (N,C,*S), class indices (N,*S)."""
PIXELS = Example(_labels, (2, 10, 64, 64), _paths.DISC, one_per_class, "logits")
"""The same for images; the path moves a disc."""
DISTRIBUTIONS = Example(_distributions, (8, 10), _paths.MARGIN_OF_DISTRIBUTION, one_per_class, "logits")
"""Logits (N,C,*S), probabilities (N,C,*S)."""
BINARY = Example(_binary, (8, 10), _paths.LOGIT, one_per_class, "binary")
"""Logits, 0 or 1 for each."""
MASKS = Example(_binary, (2, 1, 64, 64), _paths.MASK, group="binary")
"""The same for images with one channel."""
SCORES = Example(_scores, (8, 10), _paths.SCORE, group="scores")
"""Logits, a score in [0, 1] for each."""
QUALITY = Example(_quality, (8, 10), _paths.SCORE, group="scores")
"""Logits (N,C), a pair of labels (N,) and scores (N,)."""
VALUES = Example(_values, (8, 4), _paths.ERROR)
"""Numbers and numbers."""
BOXES = Example(_boxes, (8, 4), _paths.SHIFT)
"""Boxes (…,4), in the format of the loss's `bbox_format`."""
BINS = Example(_bins, (8, 17), _paths.CENTRE, lambda loss: loss.reg_max + 1)
"""Logits of `reg_max` + 1 bins, positions."""
LOGITS = Example(_logits, (8, 10), _paths.STUDENT, group="logits")
"""Logits of student and teacher."""
CORRELATED = dataclasses.replace(LOGITS, path=_paths.ANGLE)
"""The same for a loss that compares the samples of a batch; the path turns them."""
FEATURES = Example(_features, (4, 16, 8, 8), _paths.NOISE, _channels)
"""Feature maps of student and teacher, with the loss's `student_channels` and `teacher_channels`."""
EMBEDDINGS = Example(_embeddings, (16, 64), _paths.ANGLE, _channels)
"""Vectors of student and teacher."""
