"""Distances to a mask, and to the boundary of regions."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence

import torch
from torch import Tensor

from losses_core.errors import InputError
from losses_core.utils import checks
from losses_seg import _ops
from losses_seg._targets import class_mask


def distance_transform(mask: Tensor, *, spacing: float | Sequence[float] | None = None) -> Tensor:
    """Distance of each true element to the nearest false one, as scipy's ``distance_transform_edt``, batched.

    Args:
        mask: bool (N,*S), or anything that is true where not 0.
        spacing: size of an element along each axis of S, one number or one per axis. Default: 1.

    Returns:
        float32 (N,*S): 0 where the mask is false, inf in an image that is true everywhere.

    Raises:
        InputError: no spatial axis; a spacing that does not fit.

    Example:
        >>> import torch
        >>> distance_transform(torch.tensor([[0, 1, 1, 1, 0]]))
        tensor([[0., 1., 2., 1., 0.]])
    """
    mask = checks.tensor("mask", mask)
    if mask.ndim < 2:
        raise InputError(f"expected a mask of shape (N, *S), with one or more spatial axes; got {tuple(mask.shape)}.")
    with torch.no_grad():
        return _ops.squared_distance(mask == 0, steps_of(spacing, mask.ndim - 1), torch.float32).sqrt()


def signed_distance(
    region: Tensor, classes: int, ignored: Tensor | None, steps: Sequence[float], dtype: torch.dtype
) -> Tensor:
    """Distance to the contour of each region, not positive inside; without a gradient.

    Args:
        region: labels (N,*S), or bool masks (N,C,*S).
        classes: C.
        ignored: bool (N,1,*S) or (N,C,*S), neither inside nor outside; None: nothing is ignored.
        steps: size of an element along each axis of S.
        dtype: of the result.

    Returns:
        (N,C,*S): outside the distance to the nearest element inside; inside minus that to the nearest one outside, plus
        the smallest step. 0 where a region is absent or fills the image, and where ignored.
    """
    with torch.no_grad():
        distance = _ops.boundary_distance([region], classes, ignored, steps, 1.0, dtype)
        return with_sign(distance, region, 0, min(steps))


def with_sign(distance: Tensor, region: Tensor, first: int, step: float) -> Tensor:
    """`signed_distance` from distances (N,C,*S) of the classes from ``first`` on."""
    inside = class_mask(region, first + distance.shape[1], first) if region.ndim < distance.ndim else region
    return torch.where(inside, (step - distance).clamp(max=0), distance)


def is_spacing(value: object, dims: int | None = None) -> bool:
    """Whether a value is a number > 0 or a sequence of them, one for each of ``dims`` where that is known."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return len(value) == (dims or len(value)) > 0 and all(
            not isinstance(s, Sequence) and is_spacing(s) for s in value
        )
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    return 0 < float(value) < math.inf  # math.isfinite takes no number that a compiler left open


def steps_of(spacing: float | Sequence[float] | None, dims: int) -> list[float]:
    """One step for each axis; refuse a spacing that does not fit."""
    spacing = 1.0 if spacing is None else spacing
    if not is_spacing(spacing, dims):
        raise InputError(f"spacing: expected a number > 0, or {dims} of them, one per spatial axis; got {spacing!r}.")
    return [float(step) for step in spacing] if isinstance(spacing, Sequence) else [float(spacing)] * dims
