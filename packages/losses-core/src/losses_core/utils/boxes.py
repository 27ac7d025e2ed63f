"""Box geometry: the one implementation of overlap, for `compute_iou` and for every IoU loss."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from losses_core.errors import InputError
from losses_core.utils.precision import full_precision

BoxFormat = Literal["xyxy", "xywh", "cxcywh", "ltwh"]
BOX_FORMATS: tuple[str, ...] = get_args(BoxFormat)


class Corners(NamedTuple):
    """Left top and right bottom corners of boxes, each (2,…): x, then y.

    Coordinates come first, so that each is one run of memory and one operation serves both axes.
    """

    low: Tensor
    high: Tensor


class Sides(NamedTuple):
    """Width and height, each (2,…): ``raw`` may be negative (inverted or apart), ``size`` is clamped at 0."""

    raw: Tensor
    size: Tensor


class Overlap(NamedTuple):
    """Areas that boxes share, and the sides of both and of their intersection."""

    inter: Tensor
    union: Tensor
    first: Sides
    second: Sides
    shared: Sides


def corners(box: Tensor, bbox_format: BoxFormat = "xyxy") -> Corners:
    """Corners of boxes (…,4).

    ``xyxy``: two corners. ``xywh`` and ``cxcywh``: centre and size, as in YOLO code. ``ltwh``: left top corner and
    size, as in COCO files.
    """
    first, second = torch.stack(box.unbind(-1)).split(2)
    if bbox_format == "xyxy":
        return Corners(first, second)
    if bbox_format == "ltwh":
        return Corners(first, first + second)
    return Corners(first - second / 2, first + second / 2)


def sides(low: Tensor, high: Tensor) -> Sides:
    """Sides of the box between two corners; an inverted one is empty."""
    raw = high - low
    return Sides(raw, raw.clamp(min=0))


def area(box: Sides) -> Tensor:
    """Width times height, (…)."""
    width, height = box.size.unbind(0)
    return width * height


def overlap(p: Corners, g: Corners) -> Overlap:
    """Intersection and union of boxes, with their sides; coordinates broadcast."""
    first, second = sides(*p), sides(*g)
    shared = sides(torch.maximum(p.low, g.low), torch.minimum(p.high, g.high))
    inter = area(shared)
    return Overlap(inter, area(first) + area(second) - inter, first, second, shared)


def enclosing(p: Corners, g: Corners) -> Sides:
    """Sides of the smallest box around both."""
    return sides(torch.minimum(p.low, g.low), torch.maximum(p.high, g.high))


def check_boxes(box1: Tensor, box2: Tensor, pairwise: bool = False) -> None:
    """Check two sets of boxes: (…,4) of one shape, or (N,4) and (M,4) with ``pairwise``."""
    for name, box in (("box1", box1), ("box2", box2)):
        if box.ndim == 0 or box.shape[-1] != 4:
            raise InputError(f"expected {name} of shape (…, 4); got {tuple(box.shape)}.")
        if pairwise and box.ndim != 2:
            raise InputError(f"expected {name} of shape (N, 4) with pairwise=True; got {tuple(box.shape)}.")
        if not box.is_floating_point():
            raise InputError(f"expected floating {name}; got {box.dtype}.")
    if not pairwise and box1.shape != box2.shape:
        raise InputError(
            f"expected box1 and box2 of one shape; got {tuple(box1.shape)} and {tuple(box2.shape)}. "
            "Use pairwise=True for every box against every other."
        )


def _prepared(box1: Tensor, box2: Tensor, pairwise: bool, bbox_format: BoxFormat) -> tuple[Corners, Corners]:
    check_boxes(box1, box2, pairwise)
    if bbox_format not in BOX_FORMATS:
        raise InputError(f"bbox_format: expected one of {', '.join(map(repr, BOX_FORMATS))}; got {bbox_format!r}.")
    p, g = corners(box1, bbox_format), corners(box2, bbox_format)
    if pairwise:
        p, g = Corners(*(x.unsqueeze(-1) for x in p)), Corners(*(x.unsqueeze(1) for x in g))
    return p, g


@full_precision
def compute_iou(
    box1: Tensor, box2: Tensor, *, pairwise: bool = False, bbox_format: BoxFormat = "xyxy", eps: float = 1e-6
) -> Tensor:
    r"""Intersection over union of boxes.

    .. math:: \text{IoU} = \frac{|A \cap B|}{\max(|A \cup B|, \varepsilon)}

    Args:
        box1: (…,4), or (N,4) with ``pairwise``.
        box2: of the shape of ``box1``, or (M,4) with ``pairwise``.
        pairwise: every box of ``box1`` against every box of ``box2``.
        bbox_format: ``xyxy``, ``xywh`` (centre and size) = ``cxcywh``, or ``ltwh`` (corner and size).
        eps: lower bound of the union, so that empty boxes give 0.

    Returns:
        (…) or (N,M), in [0, 1].

    Raises:
        InputError: unequal shapes without ``pairwise``, a last axis that is not 4, an unknown format.

    Example:
        >>> import torch
        >>> compute_iou(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 3, 2]]))
        tensor([0.3333])
    """
    areas = overlap(*_prepared(box1, box2, pairwise, bbox_format))
    return areas.inter / areas.union.clamp(min=eps)


@full_precision
def compute_giou(
    box1: Tensor, box2: Tensor, *, pairwise: bool = False, bbox_format: BoxFormat = "xyxy", eps: float = 1e-6
) -> Tensor:
    r"""Generalised intersection over union of boxes (Rezatofighi et al., CVPR 2019, arXiv 1902.09630).

    .. math:: \text{GIoU} = \text{IoU} - \frac{|E| - |A \cup B|}{\max(|E|, \varepsilon)}

    with :math:`E` the smallest box around both. Arguments, shapes and errors as in `compute_iou`.

    Returns:
        (…) or (N,M), in [-1, 1]; an empty box may give a negative value.

    Example:
        >>> import torch
        >>> compute_giou(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([[3.0, 0, 4, 1]]))
        tensor([-0.5000])
    """
    p, g = _prepared(box1, box2, pairwise, bbox_format)
    areas = overlap(p, g)
    hull = area(enclosing(p, g))
    return areas.inter / areas.union.clamp(min=eps) - (hull - areas.union) / hull.clamp(min=eps)
