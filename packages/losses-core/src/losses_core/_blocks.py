"""How a tensor of predictions is cut into blocks of rows, so that temporaries stay small."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

Layout: TypeAlias = Literal["elements", "channels", "classes", "last", "batch", "whole"]
"""What a row of ``pred`` is, and so along which axes a definition may be cut into blocks:

- ``elements``: every element by itself; a kernel sees tensors of any shape.
- ``channels``: every element by itself, with options along axis 1; a kernel sees (n,C) or (n,C,s).
- ``classes``: axis 1 is reduced; a kernel sees (n,C) or (n,C,s), and rows (n,) or (n,s).
- ``last``: the last axis is reduced; a kernel sees (n,C), and rows (n,).
- ``batch``: a sample, with all its axes.
- ``whole``: nothing can be cut, as samples are related to each other.
"""

CPU_BLOCK = 1 << 16
"""Elements of a block on the CPU: 256 KiB in float32, so that the temporaries stay in the L2 cache."""

DEVICE_BLOCKS = 7 << 18, 1 << 24
"""Fewest and most elements of a block on an accelerator: enough to fill it, and no more than its L2 cache holds."""

DEVICE_SHARE = 0.4, 0.8
"""Share of pred's bytes that the temporaries of a block may take on an accelerator, in half and in full precision."""

SMALL_WORKSPACE = 1 << 27
"""Elements that the temporaries of a small tensor may have together: to cut it is not worth the kernels."""

_ALIGNED = 64
"""Elements of which the width of a block is a multiple: a row that starts within a cache line
takes half as long again."""

Part: TypeAlias = "tuple[Tensor, list[Tensor | None]]"
"""A block of ``pred``, and those of the other tensors."""


def block_size(pred: Tensor, temporaries: float = 16, large: bool = False) -> int:
    """Number of elements of a block.

    Args:
        pred: what is cut.
        temporaries: float32 tensors of the size of a block that are alive at once.
        large: whether blocks on a CPU are four times as large.
    """
    if torch.compiler.is_compiling():
        return CPU_BLOCK  # nothing is cut; in a backward, the compiler of torch 2.6 refuses the next question
    if pred.is_cpu:
        return 4 * CPU_BLOCK if large else CPU_BLOCK
    fewest, most = DEVICE_BLOCKS
    small = min(max(int(SMALL_WORKSPACE / temporaries), 4 * fewest), 2 * most)
    if pred.numel() <= small:
        return small
    share = DEVICE_SHARE[pred.element_size() > 2] * pred.element_size() / 4
    return min(max(int(share * pred.numel() / temporaries), fewest), most)


def sample_block_size(pred: Tensor, temporaries: float) -> int:
    """`block_size` for a softmax along axis 1: on a CPU a sample of moderate size, as a part of it is not contiguous.

    Of such a part torch's softmax makes a copy, which takes as long as the softmax.
    """
    size, sample = block_size(pred, temporaries, large=True), pred[:1].numel()
    return sample if pred.is_cpu and size < sample <= 8 * size else size


def value_shape(layout: Layout, pred: Tensor) -> list[int] | None:
    """Shape of the unreduced loss; None where only the kernel knows it."""
    shape = list(pred.shape)
    if layout == "classes":
        shape.pop(1)
    elif layout == "last":
        shape.pop()
    elif layout in ("batch", "whole"):
        return None
    return shape


def new_like(pred: Tensor, layout: Layout, dtype: torch.dtype) -> Tensor:
    """Allocate a tensor of the shape of ``pred`` of which blocks are views."""
    channels_last = pred.ndim == 4 and pred.is_contiguous(memory_format=torch.channels_last)
    not_flattened = layout == "batch" or (pred.ndim < 4 and layout in ("channels", "classes"))
    if pred.is_contiguous() or not_flattened or (channels_last and layout != "last") or classes_last(layout, pred):
        return torch.empty_like(pred, dtype=dtype)
    return torch.empty(pred.shape, dtype=dtype, device=pred.device)


def classes_last(layout: Layout, pred: Tensor) -> bool:
    """Whether the classes are innermost in memory, so that all rows are one (n,C) view: tokens, channels_last."""
    if layout != "classes" or pred.ndim < 3 or torch.compiler.is_compiling():
        return False
    return pred.stride(1) == 1 and pred.movedim(1, -1).is_contiguous()


def merge_rows(pred: Tensor, others: Sequence[Tensor | None]) -> Part:
    """View tensors of the layout ``classes``, whose classes are innermost in memory, as (n,C) and (n,)."""
    shape = [pred.shape[0], *pred.shape[2:]]

    def merge(tensor: Tensor) -> Tensor:
        if tensor.ndim == pred.ndim:
            return tensor.movedim(1, -1).reshape(-1, tensor.shape[1])
        return tensor.expand(shape).reshape(-1)

    return merge(pred), [None if t is None else merge(t) for t in others]


def as_rows(layout: Layout, pred: Tensor, others: Sequence[Tensor | None]) -> Part:
    """View ``pred`` and tensors of its shape, or of the shape of its rows, as kernels see them."""
    ndim = pred.ndim
    if layout == "elements":
        tensors = [t for t in (pred, *others) if t is not None]
        if ndim == 1 or any(t.shape != pred.shape for t in tensors):
            return pred, list(others)
        if all(t.is_contiguous() for t in tensors):
            return pred.view(-1), [None if t is None else t.view(-1) for t in others]
        if ndim == 4 and all(t.is_contiguous(memory_format=torch.channels_last) for t in tensors):
            flat = [None if t is None else t.permute(0, 2, 3, 1).view(-1) for t in (pred, *others)]
            return flat[0], flat[1:]  # type: ignore[return-value]  # pred is there
        return pred, list(others)
    return _row_view(layout, pred, ndim), [None if t is None else _row_view(layout, t, ndim) for t in others]


def _row_view(layout: Layout, tensor: Tensor, ndim: int) -> Tensor:
    if layout in ("channels", "classes"):
        start = tensor.ndim - ndim + 2  # 2 for tensors like pred, 1 for rows without the class axis
        return tensor.flatten(start) if ndim > 3 and tensor.ndim > start + 1 else tensor
    if layout == "last":
        if tensor.ndim < ndim:
            return tensor if tensor.ndim == 1 else tensor.reshape(-1)
        return tensor if ndim == 2 else tensor.reshape(-1, tensor.shape[-1])
    return tensor


def split(layout: Layout, pred: Tensor, others: Sequence[Tensor | None], size: int) -> Iterator[Part]:
    """Cut tensors that are viewed as rows into blocks of about ``size`` elements."""
    per_row = math.prod(pred.shape[1:])
    if layout in ("channels", "classes") and pred.ndim == 3 and per_row > size:
        width = max(1, size // max(1, pred.shape[1]))
        yield from _split_inner(pred, others, width - width % _ALIGNED if width > _ALIGNED else width)
        return
    rows = max(1, size // max(1, per_row))
    blocks = pred.split(rows)
    parts = [[None] * len(blocks) if t is None else t.split(rows) for t in others]
    for index, block in enumerate(blocks):
        yield block, [part[index] for part in parts]


def _split_inner(pred: Tensor, others: Sequence[Tensor | None], width: int) -> Iterator[Part]:
    """Cut into single samples, and each along its last axis; a tensor that lacks this axis serves all blocks."""
    inner = pred.shape[-1]

    def cut(tensor: Tensor, row: int, start: int) -> Tensor:
        tensor = tensor[row : row + 1]
        return tensor[..., start : start + width] if tensor.ndim > 1 and tensor.shape[-1] == inner else tensor

    for row in range(pred.shape[0]):
        for start in range(0, inner, width):
            yield cut(pred, row, start), [None if t is None else cut(t, row, start) for t in others]


def ranges(length: int, size: int) -> list[tuple[int, int]]:
    """Cut an axis into ranges of ``size``, for a kernel with blocks of its own; a single one while compiling."""
    if torch.compiler.is_compiling():
        return [(0, length)]
    return [(start, min(start + size, length)) for start in range(0, length, size)]
