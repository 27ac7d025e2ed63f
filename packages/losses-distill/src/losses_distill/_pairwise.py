"""Relations of all rows of a batch to each other, from one matrix product, in differentiable operations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def unit(x: Tensor, eps: float = 1e-12) -> Tensor:
    """Scale rows to length 1; those no longer than ``eps`` become 0, with gradient 0."""
    return x / lengths(x, eps)


def lengths(x: Tensor, eps: float = 1e-12) -> Tensor:
    """(N,1) lengths of rows; inf for those no longer than ``eps``, NaN for those with a NaN."""
    return F.threshold(torch.linalg.vector_norm(x, dim=1, keepdim=True), eps, torch.inf)


def squared_distances(x: Tensor, eps: float, *, wide: bool = False) -> Tensor:
    """(N,N) squared distances of the rows of (N,D); those that do not exceed ``eps`` or rounding are exactly 0.

    Args:
        x: (N,D).
        eps: see above.
        wide: compute in float64 where the device has it: for what divides by distances, in which those of close rows
            lose precision.
    """
    # |a|² + |b|² - 2ab errs by hundreds of per cent on features with an offset
    centered = x - x.mean(0, keepdim=True)
    if wide and x.device.type != "mps":
        centered = centered.double()
    square = (centered * centered).sum(1)
    sums = square.unsqueeze(0) + square.unsqueeze(1)
    distances = sums - 2 * (centered @ centered.T)
    # equal rows differ by rounding here, and would have a direction of rounding errors
    rounding = sums * (8 * torch.finfo(sums.dtype).eps)
    return distances.masked_fill(distances <= rounding.clamp(min=eps), 0).to(x.dtype)
