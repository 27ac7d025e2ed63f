"""Box geometry: the one implementation of overlap, for `compute_iou` and for every IoU loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from losses_core.errors import InputError
from losses_core.utils.precision import full_precision

BoxFormat = Literal["xyxy", "xywh", "cxcywh", "ltwh"]
BOX_FORMATS: tuple[BoxFormat, ...] = get_args(BoxFormat)


def corners(*boxes: Tensor, bbox_format: BoxFormat = "xyxy") -> Sequence[Tensor]:
    """Corners (2,2,…) of each set of boxes (…,4), all of one shape: left top and right bottom, each x and y.

    Coordinates come first, so that each is one run of memory and one operation serves both axes.

    ``xyxy``: two corners. ``xywh`` and ``cxcywh``: centre and size, as in YOLO code. ``ltwh``: left top corner and
    size, as in COCO files.
    """
    given = torch.stack([coordinate for box in boxes for coordinate in box.unbind(-1)])
    given = given.view(len(boxes), 2, 2, *boxes[0].shape[:-1])
    return [in_corners(box, bbox_format) for box in given.unbind(0)]


def in_corners(given: Tensor, bbox_format: BoxFormat) -> Tensor:
    """Corners (2,2,…) of boxes of which the four numbers come first, in pairs: (2,2,…)."""
    if bbox_format == "xyxy":
        return given
    first, size = given.unbind(0)
    if bbox_format == "ltwh":
        return torch.stack((first, first + size))
    half = size / 2
    return torch.stack((first - half, first + half))


def sides(first: Tensor, second: Tensor, *, hull: bool) -> list[Tensor]:
    """Compute the sides (2,…) of two boxes given by their corners, which broadcast.

    They are those of the second, of the first, of the box that they share and, if asked for, of the one around both.
    Negative where a box is inverted or the two are apart.
    """
    (outer_low, inner_high), (inner_low, outer_high) = (
        torch.minimum(first, second).unbind(0),
        torch.maximum(first, second).unbind(0),
    )
    of_all = [corner[1] - corner[0] for corner in (second, first)]
    of_all.append(inner_high - inner_low)
    if hull:
        of_all.append(outer_high - outer_low)
    return of_all


def area(size: Tensor) -> Tensor:
    """Width times height of sides (2,…), each at least 0: an inverted box is empty."""
    width, height = size.unbind(0)
    return width * height


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


def _areas(box1: Tensor, box2: Tensor, pairwise: bool, bbox_format: BoxFormat, *, hull: bool = False) -> list[Tensor]:
    """Areas of intersection, union and, if asked for, hull."""
    check_boxes(box1, box2, pairwise)
    if bbox_format not in BOX_FORMATS:
        raise InputError(f"bbox_format: expected one of {', '.join(map(repr, BOX_FORMATS))}; got {bbox_format!r}.")
    (first,), (second,) = corners(box1, bbox_format=bbox_format), corners(box2, bbox_format=bbox_format)
    if pairwise:
        first, second = first.unsqueeze(-1), second.unsqueeze(-2)
    # one by one: a set of boxes is smaller than the table of its pairs
    one, other, inter, *rest = (area(side.clamp(min=0)) for side in sides(first, second, hull=hull))
    return [inter, one + other - inter, *rest]


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
    inter, union = _areas(box1, box2, pairwise, bbox_format)
    return inter / union.clamp(min=eps)


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
    inter, union, hull = _areas(box1, box2, pairwise, bbox_format, hull=True)
    return inter / union.clamp(min=eps) - (hull - union) / hull.clamp(min=eps)
