"""Algorithms without a gradient. Where they read values they are custom operators, which no compiler traces into."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from losses_core.distributed import gather_cat, named_group
from losses_core.utils.torch_compat import transforms_active
from losses_seg import _edt, _skeleton


def _is_traced() -> bool:
    """Whether a compiler is to find an operator; inside of a transform of torch.func it finds the algorithm."""
    return torch.compiler.is_compiling() and not transforms_active()


def _is_opaque(tensor: Tensor) -> bool:
    """Whether the operator runs: where values may be read, or a compiler must not unroll loops over a batch."""
    return _is_traced() or (tensor.is_cpu and not transforms_active())


def _implementation(operator: Any, tensor: Tensor) -> Callable[..., Tensor]:
    """Return the function of an operator where there are values and no compiler.

    The first call of an operator takes seconds, as it imports the compiler.
    """
    eager = type(tensor) is Tensor and not _is_traced()
    return _FUNCTIONS[operator] if eager else operator


def kth_largest(
    values: Tensor, number: int | None, share: float | None, enough: float, group: str | None = None
) -> Tensor:
    """Find the K-th largest of the values that are not negative.

    On the CPU values are read, so that nothing is sorted where that can be avoided.

    Args:
        values: (P,); negative ones do not take part.
        number: K; None: ``share`` is given.
        share: K is this part of the values that take part, rounded up.
        enough: a value from which on the exact result does not matter.
        group: name of the processes that hold the values together.

    Returns:
        0-d. -inf if fewer than K values take part; where K values reach ``enough``, it may be any number from there on.
    """
    if group is None and not _is_opaque(values):
        return _kth_largest(values, number, share)
    return _implementation(kth_largest_op, values)(values, number, share, enough, group)


def _kth_largest(values: Tensor, number: int | None, share: float | None) -> Tensor:
    size = values.shape[0]
    if number is not None:
        return values.topk(number, sorted=False).values.amin() if number <= size else values.new_full((), -torch.inf)
    if size == 0:
        return values.new_full((), -torch.inf)
    # K depends on how many take part: it is looked up among the most that there can be
    exact = torch.float32 if values.device.type == "mps" else torch.float64
    k = ((values >= 0).sum().to(exact) * cast(float, share)).ceil().long()
    largest = values.topk(math.ceil(cast(float, share) * size)).values
    return largest.gather(0, (k - 1).clamp(min=0).unsqueeze(0)).squeeze(0)


def _find_kth_largest(
    values: Tensor, number: int | None, share: float | None, enough: float, group: str | None
) -> Tensor:
    """`kth_largest`; on the CPU inf where K values reach ``enough``."""
    if group is not None:  # the lengths are known to the ranks together only
        if number is not None and number < values.shape[0]:
            values = values.topk(number, sorted=False).values  # no other can be among the largest of all
        values = gather_cat(values, named_group(group))
    if not values.is_cpu:
        return _kth_largest(values, number, share)
    valid = torch.count_nonzero(values >= 0).item()
    k = math.ceil(cast(float, share) * valid) if number is None else number
    if k == 0 or k > valid:
        return values.new_full((), -torch.inf)
    if torch.count_nonzero(values >= enough).item() >= k:
        return values.new_full((), torch.inf)
    return values.kthvalue(values.shape[0] - k + 1).values


kth_largest_op = torch.library.custom_op(
    "losses_seg::kth_largest",
    mutates_args=(),
    schema="(Tensor values, int? number, float? share, float enough, str? group) -> Tensor",
)(_find_kth_largest)


@kth_largest_op.register_fake
def _(values: Tensor, *_: Any) -> Tensor:
    return values.new_empty(())


def squared_distance(source: Tensor, steps: Sequence[float], dtype: torch.dtype) -> Tensor:
    """Squared distance of each element of (N,*S) to the nearest true one of its image; inf where there is none.

    Args:
        source: bool (N,*S).
        steps: size of an element along each axis of S.
        dtype: of the result.
    """
    if not _is_opaque(source):
        return _edt.squared_distance_without_sync(source, steps, dtype)
    return _implementation(squared_distance_op, source)(source, steps, dtype)


def _squared_distance(source: Tensor, steps: Sequence[float], dtype: torch.dtype) -> Tensor:
    """`squared_distance`; on the CPU by loops that read values, and stop early."""
    transform = _edt.squared_distance_by_loops if source.is_cpu else _edt.squared_distance_without_sync
    return transform(source, steps, dtype)


squared_distance_op = torch.library.custom_op(
    "losses_seg::squared_distance",
    mutates_args=(),
    schema="(Tensor source, float[] steps, ScalarType dtype) -> Tensor",
)(_squared_distance)


@squared_distance_op.register_fake
def _(source: Tensor, steps: Sequence[float], dtype: torch.dtype) -> Tensor:
    return torch.empty_like(source, dtype=dtype, memory_format=torch.contiguous_format)


def boundary_distance(
    regions: list[Tensor],
    classes: int,
    ignored: Tensor | None,
    steps: Sequence[float],
    exponent: float,
    dtype: torch.dtype,
) -> Tensor:
    """Sum over regions of the distance to the boundary, to a power: 0 where a region has none, and where ignored.

    Args:
        regions: labels (N,*S), or bool masks (N,C,*S), of each.
        classes: C.
        ignored: bool (N,1,*S) or (N,C,*S); None: nothing is ignored.
        steps: size of an element along each axis of S.
        exponent: the power > 0.
        dtype: of the result.

    Returns:
        (N,C,*S): for each region and class, the distance to the nearest element on the other side of its mask.
    """
    if not _is_opaque(regions[0]):
        return _edt.boundary_distance(False, regions, classes, ignored, steps, exponent, dtype)
    return _implementation(boundary_distance_op, regions[0])(regions, classes, ignored, steps, exponent, dtype)


def _boundary_distance(regions: Sequence[Tensor], *arguments: Any) -> Tensor:
    """`boundary_distance`; on the CPU by loops that read values, and stop early."""
    return _edt.boundary_distance(regions[0].is_cpu, regions, *arguments)


boundary_distance_op = torch.library.custom_op(
    "losses_seg::boundary_distance",
    mutates_args=(),
    schema="(Tensor[] regions, int classes, Tensor? ignored, float[] steps, float power, ScalarType dtype) -> Tensor",
)(_boundary_distance)


@boundary_distance_op.register_fake
def _(
    regions: Sequence[Tensor], classes: int, _: Tensor | None, steps: Sequence[float], _e: float, dtype: torch.dtype
) -> Tensor:
    size, *spatial = regions[0].shape[:1] + regions[0].shape[-len(steps) :]
    return regions[0].new_empty((size, classes, *spatial), dtype=dtype)


def sort_rows(key: Tensor) -> tuple[Tensor, Tensor]:
    """Sort each row of whole numbers (R,P) in ascending order.

    On the CPU row by row: torch sorts whole numbers several times as fast in one dimension as in two.

    Returns:
        The sorted rows, and the index of each of their elements.
    """
    if _is_traced():  # the loop over the rows would be unrolled, and compiled anew for every batch size
        values, order = sort_rows_op(key)
        return values, order
    return torch.sort(key, -1) if transforms_active() else _sort_rows(key)


def _sort_rows(key: Tensor) -> tuple[Tensor, Tensor]:
    if not key.is_cpu:
        values, order = torch.sort(key, -1)
        return values, order
    if key.shape[0] == 1:
        values, order = torch.sort(key[0])
        return values.unsqueeze(0), order.unsqueeze(0)
    values, order = torch.empty_like(key), torch.empty_like(key, dtype=torch.int64)
    for row in range(key.shape[0]):
        torch.sort(key[row], out=(values[row], order[row]))
    return values, order


@torch.library.custom_op("losses_seg::sort_rows", mutates_args=(), schema="(Tensor key) -> (Tensor, Tensor)")
def sort_rows_op(key: Tensor) -> tuple[Tensor, Tensor]:
    """`sort_rows` for a compiler."""
    return _sort_rows(key)


@sort_rows_op.register_fake
def _(key: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(key), torch.empty_like(key, dtype=torch.int64)


def truth_skeleton(
    pred: Tensor, target: Tensor, ignored: Tensor | None, iterations: int, *, first: int = 0, tube: int | None = None
) -> Tensor:
    """`losses_seg._skeleton.truth_skeleton`, as one operator for a compiler.

    It would fuse the iterations into one loop, where every minimum is computed anew for each of its neighbours.
    """
    if _is_traced():
        result: Tensor = truth_skeleton_op(pred.detach(), target, ignored, iterations, first, tube)
        return result
    return _skeleton.truth_skeleton(pred, target, ignored, iterations, first=first, tube=tube)


@torch.library.custom_op(
    "losses_seg::truth_skeleton",
    mutates_args=(),
    schema="(Tensor pred, Tensor target, Tensor? ignored, int iterations, int first, int? tube) -> Tensor",
)
def truth_skeleton_op(
    pred: Tensor, target: Tensor, ignored: Tensor | None, iterations: int, first: int, tube: int | None
) -> Tensor:
    """`truth_skeleton` for a compiler, which always finds a mask; on the CPU an empty one is not applied."""
    if ignored is not None and ignored.is_cpu and not ignored.any():
        ignored = None
    return _skeleton.truth_skeleton(pred, target, ignored, iterations, first=first, tube=tube)


@truth_skeleton_op.register_fake
def _(pred: Tensor, target: Tensor, _i: Tensor | None, _k: int, first: int, tube: int | None) -> Tensor:
    dtype = _skeleton.skeleton_dtype(pred, target, tube)
    return pred.new_empty((pred.shape[0], pred.shape[1] - first, *pred.shape[2:]), dtype=dtype)


_FUNCTIONS: dict[Any, Callable[..., Tensor]] = {
    kth_largest_op: _find_kth_largest,
    squared_distance_op: _squared_distance,
    boundary_distance_op: _boundary_distance,
}
