"""Operators that a compiler does not look into: on the CPU those that look at values to do less, as in eager mode."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from losses_seg._jaccard_host import Wanted, rank
from losses_seg._sums_host import activate


@torch.library.custom_op("losses_seg::softmax_on_host", mutates_args=(), schema="(Tensor x, Tensor? ignored) -> Tensor")
def softmax_on_host(x: Tensor, ignored: Tensor | None) -> Tensor:
    """Softmax along axis 1, 0 where ignored."""
    p = torch.empty_like(x, memory_format=torch.contiguous_format)
    activate(x, ignored, p, softmax=True)
    return p


@softmax_on_host.register_fake
def _(x: Tensor, ignored: Tensor | None) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@torch.library.custom_op(
    "losses_seg::rank_on_host",
    mutates_args=(),
    schema="(Tensor key, Tensor? truth, bool per_image, bool present, int[]? ids) -> (Tensor, Tensor, Tensor)",
)
def rank_on_host(
    key: Tensor, truth: Tensor | None, per_image: bool, present: bool, ids: Sequence[int] | None
) -> tuple[Tensor, Tensor, Tensor]:
    """`losses_seg._jaccard_host.rank`."""
    return rank(key, truth, per_image, Wanted(present, ids))


@rank_on_host.register_fake
def _(
    key: Tensor, truth: Tensor | None, per_image: bool, present: bool, ids: Sequence[int] | None
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = torch.float64 if key.dtype == torch.int64 else torch.float32
    increase = torch.empty_like(key, dtype=dtype, memory_format=torch.contiguous_format)
    sums = increase.new_empty(key.shape[:2] if per_image else key.shape[1:2])
    return increase, sums, torch.empty_like(sums)


@torch.library.custom_op("losses_seg::sort_rows", mutates_args=(), schema="(Tensor key) -> (Tensor, Tensor)")
def sort_rows(key: Tensor) -> tuple[Tensor, Tensor]:
    """Each row of (R,P) in ascending order, and where its elements stood.

    On the CPU torch sorts whole numbers several times faster in one dimension than in two. Traced, the loop over the
    rows would be unrolled, and compiled anew for every batch size.
    """
    if key.device.type != "cpu":
        ranked, order = key.sort(-1)
        return ranked, order
    ranked, order = torch.empty_like(key), torch.empty_like(key, dtype=torch.int64)
    for row in range(key.shape[0]):
        torch.sort(key[row], out=(ranked[row], order[row]))
    return ranked, order


@sort_rows.register_fake
def _(key: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(key), torch.empty_like(key, dtype=torch.int64)
