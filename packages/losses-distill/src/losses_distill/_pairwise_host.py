"""Products of all rows with each other, and squared distances, on the host."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_LEAF = 64
"""Rows up to which half of a symmetric product is not worth a product of its own."""


def gram(x: Tensor, out: Tensor | None = None) -> Tensor:
    """x xᵀ of rows (N,D): what lies below the diagonal is copied."""
    n = x.shape[0]
    if out is None:
        out = torch.empty(n, n, dtype=x.dtype)
    if n < 2 * _LEAF:
        return torch.mm(x, x.T, out=out)
    half = n // 2
    gram(x[:half], out[:half, :half])
    gram(x[half:], out[half:, half:])
    torch.mm(x[:half], x[half:].T, out=out[:half, half:])
    out[half:, :half] = out[:half, half:].T
    return out


class Distances(NamedTuple):
    """Squared distances of rows from each other.

    Attributes:
        squares: (N,N), exactly 0 for rows that are equal but for rounding.
        distinct: whether only those on the diagonal are 0.
        offset: whether the mean of the rows is not small beside them.
    """

    squares: Tensor
    distinct: bool
    offset: bool


_CLEAR = 1 / 32
"""Share of the squared lengths that the smallest squared distance must be, for float32 to see it to all but 5 bits."""


def distances(x: Tensor, eps: float, *, wide: bool = False) -> Distances:
    """As `losses_distill._pairwise.squared_distances`, of at least one row."""
    mean = x.mean(0)
    centred = x - mean
    squares = gram(centred)
    length = squares.diagonal().clone()
    squares.mul_(-2).add_(length).add_(length.unsqueeze(1))
    longest, precision = 2 * length.amax().item(), 8 * torch.finfo(x.dtype).eps
    offset = not 2 * torch.dot(mean, mean).item() <= longest
    # on the diagonal is what does not count here
    low = squares.fill_diagonal_(torch.inf).amin().item()
    if wide and x.dtype != torch.float64 and not low > _CLEAR * longest:
        precise = distances(x.double(), eps)
        return Distances(precise.squares.to(x.dtype), precise.distinct, offset)
    squares.fill_diagonal_(0)
    distinct = low > max(eps, precision * longest)
    if not distinct:
        rounding = (length + length.unsqueeze(1)).mul_(precision).clamp_(min=eps)
        squares.masked_fill_(squares <= rounding, 0)
    return Distances(squares, distinct, offset)
