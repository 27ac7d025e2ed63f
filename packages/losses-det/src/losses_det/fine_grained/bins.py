"""Bins of non-uniform width, and the way between boxes, distances and bins (Peng et al., ICLR 2025, 2410.13842)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core.errors import InputError
from losses_core.utils import checks
from losses_core.utils.precision import full_precision

__all__ = ["bins_to_distance", "box_to_distance", "distance_to_bins", "distance_to_box", "weighting_function"]


def check_bins(reg_max: int, up: float, reg_scale: float) -> None:
    """Check the parameters of a weighting function."""
    if reg_max < 2 or reg_max % 2:
        raise InputError(f"reg_max: expected an even integer >= 2; got {reg_max}.")
    for name, value in (("up", up), ("reg_scale", reg_scale)):
        if not value > 0:
            raise InputError(f"{name}: expected a number > 0; got {value}.")


def weighting_function(
    reg_max: int = 32,
    up: float = 0.5,
    reg_scale: float = 4.0,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    r"""Distance that each bin stands for: dense around 0, sparse far away.

    .. math::
        W_0 = -2a, \quad W_{R/2 \pm i} = \pm\left[(a+1)^{2i / (R-2)} - 1\right], \quad W_R = 2a, \qquad
        a = \mathit{up} \cdot \mathit{reg\_scale}

    Args:
        reg_max: number R of the last bin, even.
        up: half of the largest distance, in units of ``reg_scale``, > 0.
        reg_scale: unit of distances > 0.
        dtype: of the result.
        device: of the result.

    Returns:
        (R+1,), increasing.

    Raises:
        InputError: an odd ``reg_max``, a number that is not positive.

    Example:
        >>> weighting_function(4, up=0.5, reg_scale=2.0)
        tensor([-2., -1.,  0.,  1.,  2.])
    """
    check_bins(reg_max, up, reg_scale)
    a, half = up * reg_scale, reg_max // 2
    step = torch.arange(reg_max + 1, dtype=dtype, device=device) - half
    size = torch.expm1(step.abs() * (2 * math.log1p(a) / max(reg_max - 2, 1)))
    return torch.sign(step) * torch.where(step.abs() == half, 2 * a, size)


@full_precision
def distance_to_bins(
    distance: Tensor, reg_max: int = 32, up: float = 0.5, reg_scale: float = 4.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the two bins around each distance, and the weight of either; distances beyond the last bins are clamped.

    Args:
        distance: any shape.
        reg_max: as for `weighting_function`.
        up: as for `weighting_function`.
        reg_scale: as for `weighting_function`.

    Returns:
        Index of the left bin, int64 in [0, R-1]; weight of the right bin; weight of the left bin; each of the shape of
        ``distance``.

    Raises:
        InputError: an odd ``reg_max``, a number that is not positive.

    Example:
        >>> import torch
        >>> distance_to_bins(torch.tensor([0.5, -9.0]), 4, up=0.5, reg_scale=2.0)
        (tensor([2, 0]), tensor([0.5000, 0.0000]), tensor([0.5000, 1.0000]))
    """
    if not distance.is_floating_point():
        distance = distance.float()
    bins = weighting_function(reg_max, up, reg_scale, dtype=distance.dtype, device=distance.device)
    largest = 2 * up * reg_scale
    distance = distance.clamp(-largest, largest)
    index = (torch.bucketize(distance.detach(), bins, right=True) - 1).clamp(0, reg_max - 1)
    left = bins[index]
    right_share = (distance - left) / (bins[index + 1] - left)
    return index, right_share, 1 - right_share


@full_precision
def bins_to_distance(logits: Tensor, up: float = 0.5, reg_scale: float = 4.0) -> Tensor:
    """Expected distance of each distribution over the bins of `weighting_function`.

    Args:
        logits: (…,R+1).
        up: as for `weighting_function`.
        reg_scale: as for `weighting_function`.

    Returns:
        (…)

    Raises:
        InputError: an even number of bins, a number that is not positive.

    Example:
        >>> import torch
        >>> bins_to_distance(torch.tensor([[0.0, 0.0, 0.0, 0.0, 9.0]]), up=0.5, reg_scale=2.0)
        tensor([1.9988])
    """
    if logits.ndim == 0 or logits.shape[-1] < 3 or logits.shape[-1] % 2 == 0:
        raise InputError(f"expected logits of shape (…, reg_max + 1) for an even reg_max; got {tuple(logits.shape)}.")
    bins = weighting_function(logits.shape[-1] - 1, up, reg_scale, dtype=logits.dtype, device=logits.device)
    return F.softmax(logits, -1) @ bins


@full_precision
def box_to_distance(points: Tensor, boxes: Tensor, reg_scale: float = 4.0) -> Tensor:
    """Distances of the sides of boxes from the centres of anchors, in units of the anchors' sizes.

    Left is (cx - x1) / (w / reg_scale) - reg_scale / 2, and so on: 0 where the box is the anchor.

    Args:
        points: anchors (…,4) as centre and size, of positive size.
        boxes: (…,4) as corners, of the shape of ``points``.
        reg_scale: unit of distances > 0.

    Returns:
        (…,4) in the order left, top, right, bottom.

    Raises:
        InputError: a last axis that is not 4, unequal shapes, a ``reg_scale`` that is not positive.

    Example:
        >>> import torch
        >>> box_to_distance(torch.tensor([[4.0, 4.0, 4.0, 4.0]]), torch.tensor([[1.0, 2.0, 6.0, 6.0]]))
        tensor([[1., 0., 0., 0.]])
    """
    centre, size = _anchors(points, boxes, "boxes", reg_scale)
    low, high = boxes.split(2, -1)
    unit = size / reg_scale
    return torch.cat(((centre - low) / unit, (high - centre) / unit), -1) - reg_scale / 2


@full_precision
def distance_to_box(points: Tensor, distance: Tensor, reg_scale: float = 4.0) -> Tensor:
    """The boxes that `box_to_distance` gives these distances for.

    Args:
        points: anchors (…,4) as centre and size.
        distance: (…,4) in the order left, top, right, bottom.
        reg_scale: unit of distances > 0.

    Returns:
        Boxes (…,4) as corners.

    Raises:
        InputError: a last axis that is not 4, unequal shapes, a ``reg_scale`` that is not positive.

    Example:
        >>> import torch
        >>> distance_to_box(torch.tensor([[4.0, 4.0, 4.0, 4.0]]), torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
        tensor([[1., 2., 6., 6.]])
    """
    centre, size = _anchors(points, distance, "distance", reg_scale)
    near, far = ((distance + reg_scale / 2) / reg_scale).split(2, -1)
    return torch.cat((centre - near * size, centre + far * size), -1)


def _anchors(points: Tensor, other: Tensor, name: str, reg_scale: float) -> tuple[Tensor, Tensor]:
    if points.ndim == 0 or points.shape[-1] != 4:
        raise InputError(f"expected points (centre and size) of shape (…, 4); got {tuple(points.shape)}.")
    checks.shape(name, other, points.shape, reference=f"points {tuple(points.shape)}")
    if not reg_scale > 0:
        raise InputError(f"reg_scale: expected a number > 0; got {reg_scale}.")
    centre, size = points.split(2, -1)
    return centre, size
