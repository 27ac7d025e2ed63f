"""Points of masks: where they are drawn, and what is read there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core._blocks import block_size, ranges
from losses_core.utils.precision import upcast
from losses_seg._targets import equals


def corners(shape: torch.Size, coords: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield for each of the four pixels around points its index (M,K) and its bilinear weight, 0 outside.

    Args:
        shape: (M,H,W).
        coords: (M,K,2) in [0,1], x first; the centre of a pixel is at (i + 1/2) / W.
    """
    height, width = shape[1:]
    x, y = coords[..., 0] * width - 0.5, coords[..., 1] * height - 0.5
    left, top = x.floor(), y.floor()
    for row, vertical in ((top, top + 1 - y), (top + 1, y - top)):
        for column, horizontal in ((left, left + 1 - x), (left + 1, x - left)):
            outside = (row < 0) | (row >= height) | (column < 0) | (column >= width)
            index = row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
            yield index, (vertical * horizontal).masked_fill(outside, 0)


def read_points(maps: Tensor, coords: Tensor) -> Tensor:
    """Read (M,H,W) at points (M,K,2) bilinearly; pixels outside are 0.

    ``grid_sample`` does the same, but has no second derivative.
    """
    flat, total = maps.flatten(1), None
    for index, weight in corners(maps.shape, coords.to(upcast(maps[:0]).dtype)):
        # what has weight 0 may be NaN
        part = upcast(flat.gather(1, index)).masked_fill(weight == 0, 0) * weight
        total = part if total is None else total + part
    return total  # type: ignore[return-value]  # there are four corners


def sample(maps: Tensor, coords: Tensor) -> Tensor:
    """`read_points` by torch's operator, which is faster, where nothing can be NaN that is not to be read."""
    grid = (2 * coords - 1).to(maps.dtype).unsqueeze(2)
    return F.grid_sample(maps.unsqueeze(1), grid, align_corners=False)[:, 0, :, 0]


def sample_grad(maps: Tensor, coords: Tensor, grad: Tensor) -> Tensor:
    """The gradient of `sample` in the maps."""
    grid = (2 * coords - 1).to(maps.dtype).unsqueeze(2)
    backward = torch.ops.aten.grid_sampler_2d_backward
    result: Tensor = backward(grad[:, None, :, None], maps.unsqueeze(1), grid, 0, 0, False, [True, False])[0]
    return result.squeeze(1)


def read_truth(
    target: Tensor, coords: Tensor, ignore_index: int | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor | None]:
    """The target at points, and whether a point touches no ignored pixel; None: no pixel is ignored."""
    flat, total, valid = target.flatten(1), None, None
    for index, weight in corners(target.shape, coords.to(dtype)):
        label = flat.gather(1, index)
        part = label.to(dtype)
        if ignore_index is not None:
            ignored = equals(label, ignore_index) & (weight > 0)
            valid = ~ignored if valid is None else valid & ~ignored
            part = part.masked_fill(ignored, 0)
        part = part * weight
        total = part if total is None else total + part
    return total, valid  # type: ignore[return-value]  # there are four corners


@torch.no_grad()
def draw_points(
    pred: Tensor,
    target: Tensor,
    ignore_index: int | None,
    *,
    points: int,
    oversample: float,
    importance: float,
    generator: torch.Generator | None,
) -> Tensor:
    """Draw points (M,K,2): the most uncertain of uniform candidates, and others that are uniform.

    Args:
        pred: logits (M,H,W).
        target: (M,H',W').
        ignore_index: value of ignored pixels, whose candidates are taken last.
        points: K.
        oversample: candidates per point.
        importance: share of the points that are candidates.
        generator: of the draws; None: torch's.
    """
    number, kept = pred.shape[0], int(importance * points)
    drawn: dict[str, Any] = {"device": pred.device, "dtype": torch.float32}
    if generator is not None:  # a compiler takes no generator, not even None, where a size varies
        drawn["generator"] = generator
    candidates = torch.rand(number, int(points * oversample), 2, **drawn)
    best = []
    # some masks at a time: there may be more candidates than pixels
    for start, end in ranges(number, max(1, block_size(pred) // candidates.shape[1])):
        part = candidates[start:end]
        logits = pred.detach()[start:end]
        certainty = (sample(upcast(logits), part) if ignore_index is None else read_points(logits, part)).abs()
        if ignore_index is not None:
            valid = read_truth(target[start:end], part, ignore_index, torch.float32)[1]
            certainty = certainty.masked_fill(~valid, torch.inf)  # type: ignore[operator]  # something may be ignored
        index = (-certainty).topk(kept, 1).indices
        best.append(part.gather(1, index.unsqueeze(2).expand(-1, -1, 2)))
    rest = torch.rand(number, points - kept, 2, **drawn)
    return torch.cat([torch.cat(best) if best else candidates[:, :kept], rest], 1)
