"""Operators that a compiler does not look into: on the CPU those that look at values to do less, as in eager mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from losses_core.distributed import gather_cat, named_group
from losses_seg._distance import squared_steps
from losses_seg._jaccard_host import Wanted, rank
from losses_seg._mining import Rule, kth_largest, limit_on_host, soft_binary
from losses_seg._mining_host import hard_binary, hard_labels
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


@torch.library.custom_op(
    "losses_seg::hard_labels_on_host",
    mutates_args=(),
    schema="(Tensor x, Tensor labels, Tensor? skip, Tensor? class_weight, int ignore_index, float floor, int? number, "
    "float? part) -> (Tensor, Tensor, Tensor)",
)
def hard_labels_on_host(
    x: Tensor,
    labels: Tensor,
    skip: Tensor | None,
    class_weight: Tensor | None,
    ignore_index: int,
    floor: float,
    number: int | None,
    part: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, normalizer and gap of `losses_seg._mining_host.hard_labels`; exactly one of ``number`` and ``part`` is given."""
    if x.numel() == 0:
        return x.new_zeros(labels.shape), x.new_zeros(labels.shape), torch.zeros_like(x)
    rule = Rule(floor, cast("int | float", part if number is None else number), None)
    return hard_labels(x, labels, skip, class_weight, ignore_index, rule)[:3]


@hard_labels_on_host.register_fake
def _(x: Tensor, labels: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    gap = torch.empty_like(x, memory_format=torch.contiguous_format)
    return gap.new_empty(labels.shape), gap.new_empty(labels.shape), gap


@torch.library.custom_op(
    "losses_seg::hard_binary_on_host",
    mutates_args=(),
    schema="(Tensor x, Tensor t, Tensor? skip, int ignore_index, float floor, int? number, float? part) "
    "-> (Tensor, Tensor, Tensor)",
)
def hard_binary_on_host(
    x: Tensor, t: Tensor, skip: Tensor | None, ignore_index: int, floor: float, number: int | None, part: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, normalizer and gap of `losses_seg._mining_host.hard_binary`, for a soft target too."""
    rule = Rule(floor, cast("int | float", part if number is None else number), None)
    found = hard_binary(x, t, skip, ignore_index, rule) if x.numel() else None
    return soft_binary(x, t, skip, ignore_index, rule) if found is None else found[:3]


@hard_binary_on_host.register_fake
def _(x: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    found = torch.empty_like(x, memory_format=torch.contiguous_format)
    return found, torch.empty_like(found), torch.empty_like(found)


@torch.library.custom_op(
    "losses_seg::hardest_on_host",
    mutates_args=(),
    schema="(Tensor own, float floor, int? number, float? part) -> Tensor",
)
def hardest_on_host(own: Tensor, floor: float, number: int | None, part: float | None) -> Tensor:
    """`losses_seg._mining.limit_on_host`; exactly one of ``number`` and ``part`` is given."""
    return limit_on_host(own, floor, cast("int | float", part if number is None else number))


@hardest_on_host.register_fake
def _(own: Tensor, floor: float, number: int | None, part: float | None) -> Tensor:
    return own.new_empty(())


@torch.library.custom_op(
    "losses_seg::squared_distance_on_host",
    mutates_args=(),
    schema="(Tensor source, float[] steps, ScalarType dtype) -> Tensor",
)
def squared_distance_on_host(source: Tensor, steps: Sequence[float], dtype: torch.dtype) -> Tensor:
    """`losses_seg._distance.squared_steps`."""
    return squared_steps(source, steps, dtype)


@squared_distance_on_host.register_fake
def _(source: Tensor, steps: Sequence[float], dtype: torch.dtype) -> Tensor:
    return torch.empty_like(source, dtype=dtype, memory_format=torch.contiguous_format)


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
