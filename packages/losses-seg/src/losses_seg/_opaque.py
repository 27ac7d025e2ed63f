"""Operators that a compiler does not look into."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from losses_core.distributed import gather_cat, named_group
from losses_seg._mining import kth_largest


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


@torch.library.custom_op(
    "losses_seg::kth_largest_of_all",
    mutates_args=(),
    schema="(Tensor own, int? number, float? part, str group) -> Tensor",
)
def kth_largest_of_all(own: Tensor, number: int | None, part: float | None, group: str) -> Tensor:
    """`_mining.kth_largest` over the rows of all ranks, of lengths that only the ranks together know.

    Exactly one of ``number`` and ``part`` is given: operators know no unions.
    """
    if number is not None and number < own.shape[0]:
        own = own.topk(number, sorted=False).values  # no other can be among the largest of all
    everything = gather_cat(own, named_group(group))
    return kth_largest(everything, cast("int | float", part if number is None else number))


@kth_largest_of_all.register_fake
def _(own: Tensor, number: int | None, part: float | None, group: str) -> Tensor:
    return own.new_empty(())
