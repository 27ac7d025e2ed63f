"""Tensors as vectors along one axis, in blocks that a cache holds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Any

from torch import Tensor


def vectors(x: Tensor, axis: int) -> Tensor:
    """(…, C, …) → (A,C,P), or (A,C) where nothing follows: the vectors lie along axis 1."""
    if x.ndim == 2:
        return x
    before, after = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
    return x.reshape(before, x.shape[axis]) if after == 1 else x.reshape(before, x.shape[axis], after)


def blocks(first: Tensor, *others: Tensor | None, size: int) -> Iterable[tuple[Any, ...]]:
    """Parts of tensors (A,C,P) or (A,C), of which the first tells how many elements are handled together.

    A part holds whole vectors: some of A, or, where one of A is more than a block, some of P. None stays None.
    """
    tensors = first, *others
    if first.numel() <= size:
        return [tensors] if first.numel() else []
    one = first.numel() // first.shape[0]
    rows = -(-first.shape[0] // max(1, size // one))
    columns = 1
    if first.ndim == 3 and one > size:
        width = -(-first.shape[2] // -(-one // size))
        columns = -(-first.shape[2] // (width + -width % 16))  # whole vectors of the processor
    return zip(*(repeat(None) if tensor is None else _parts(tensor, rows, columns) for tensor in tensors), strict=False)


def _parts(tensor: Tensor, rows: int, columns: int) -> Iterator[Tensor]:
    parts = tensor.chunk(rows)
    return iter(parts) if columns == 1 else (piece for part in parts for piece in part.chunk(columns, 2))
