"""Collectives that gradients pass through, and the step that makes a reduced loss global.

Under data parallelism each rank sees a part of the batch. A mean taken per rank is the mean of the whole batch only
when every rank counts alike; with ``sync_dist=True`` numerators and denominators are summed over the ranks instead.
Gradients are meant to be averaged afterwards, as DistributedDataParallel and FSDP do.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from losses_core.errors import InputError
from losses_core.utils.autograd import Function
from losses_core.utils.torch_compat import group_of_name
from losses_core.utils.value_checks import debug_active
from losses_core.utils.weight_reduce import Reduction

ProcessGroup = Any  # torch.distributed.ProcessGroup, which builds of torch without distribution lack

__all__ = [
    "all_reduce_sum",
    "compute_all",
    "gather_cat",
    "gather_rows",
    "group_name",
    "named_group",
    "reduce_mean",
    "world_size",
]


def world_size(group: ProcessGroup | None = None) -> int:
    """Number of processes of a group; 1 where nothing is distributed.

    Args:
        group: a process group; None: the default one.

    Example:
        >>> world_size()
        1
    """
    if not (dist.is_available() and dist.is_initialized()):
        return 1
    return dist.get_world_size(group)


def all_reduce_sum(tensor: Tensor, group: ProcessGroup | None = None) -> Tensor:
    """Sum a tensor over all ranks; the gradient is summed over all ranks likewise.

    Args:
        tensor: of one shape on every rank.
        group: a process group; None: the default one.

    Returns:
        The sum; the tensor itself where nothing is distributed.

    Example:
        >>> import torch
        >>> all_reduce_sum(torch.tensor(2.0))
        tensor(2.)
    """
    if world_size(group) == 1:
        return tensor
    return _AllReduceSum.apply(tensor, group)  # type: ignore[no-any-return]


def reduce_mean(tensor: Tensor, group: ProcessGroup | None = None) -> Tensor:
    """Average a tensor over all ranks, as detection heads do with the number of positives for ``avg_factor``.

    Args:
        tensor: of one shape on every rank.
        group: a process group; None: the default one.

    Returns:
        The mean; the tensor itself where nothing is distributed.

    Example:
        >>> import torch
        >>> reduce_mean(torch.tensor(2.0))
        tensor(2.)
    """
    return all_reduce_sum(tensor, group) / world_size(group)


def gather_cat(tensor: Tensor, group: ProcessGroup | None = None) -> Tensor:
    """Concatenate the tensors of all ranks along the first axis; each rank gets the gradient of its own rows.

    They are in rank order. The ranks may hold different numbers of rows, also none. The numbers are exchanged first,
    which waits for the device.

    Args:
        tensor: (N,…); only N may differ between ranks.
        group: a process group; None: the default one.

    Returns:
        (ΣN,…); the tensor itself where nothing is distributed.

    Example:
        >>> import torch
        >>> gather_cat(torch.zeros(2, 3)).shape
        torch.Size([2, 3])
    """
    return gather_rows(tensor, group)[0]


def gather_rows(tensor: Tensor, group: ProcessGroup | None = None) -> tuple[Tensor, Tensor]:
    """As `gather_cat`, and the index of the first own row among all, 0-d, without asking the device for it.

    Example:
        >>> import torch
        >>> rows, start = gather_rows(torch.zeros(2, 3))
        >>> start
        tensor(0)
    """
    if world_size(group) == 1:
        return tensor, torch.zeros((), dtype=torch.int64, device=tensor.device)
    from losses_core import _gather

    rows, start = _gather.gather_rows(tensor, group_name(group))
    return rows, start


def group_name(group: ProcessGroup | None = None) -> str:
    """The name of a process group, for a custom operator: operators take no groups.

    Args:
        group: a process group; None: the default one.
    """
    handle: Any = group or dist.group.WORLD
    return str(handle.group_name)


def named_group(name: str) -> ProcessGroup:
    """The process group with that name."""
    return group_of_name(name)


class _AllReduceSum(Function):
    @staticmethod
    def forward(tensor: Tensor, group: ProcessGroup | None) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.group = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return all_reduce_sum(grad, ctx.group), None


class _Global(Function):
    """The value summed over the ranks, with the gradient of the own part times the number of ranks.

    Averaged over the ranks, as data parallelism does, those gradients are the gradient of the global value.
    """

    @staticmethod
    def forward(own: Tensor, total: Tensor, ranks: int) -> Tensor:
        return total.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.ranks = inputs[2]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad * ctx.ranks, None, None


def compute_all(reductions: Sequence[Reduction], names: Sequence[str]) -> list[Tensor]:
    """Divide each loss by its denominator; all that must be summed over one group travels in one collective.

    Args:
        reductions: of the losses.
        names: of the losses; ranks compare them inside `losses_core.debug`.
    """
    finished = list(reductions)
    groups: list[tuple[Any, list[int]]] = []  # no dict: a compiler may not know groups as keys
    for index, part in enumerate(finished):
        if part.group is not None and part.reduction != "none":
            known = [indices for handle, indices in groups if handle is part.group.handle]
            if known:
                known[0].append(index)
            else:
                groups.append((part.group.handle, [index]))
    for handle, indices in groups:
        if debug_active():
            _compare_ranks([names[i] for i in indices], finished[indices[0]].numerator.device, handle)
        for index, part in zip(indices, _summed([finished[i] for i in indices], handle), strict=True):
            finished[index] = part
    return [part.compute() for part in finished]


def _compare_ranks(names: Sequence[str], device: torch.device, group: ProcessGroup | None) -> None:
    """Raise an error where another rank sums other losses: their sums would be mixed, or the collective would hang."""
    own = torch.tensor([len(names), zlib.crc32("\n".join(names).encode())], device=device)
    others = [torch.empty_like(own) for _ in range(world_size(group))]
    dist.all_gather(others, own, group=group)
    different = [rank for rank, other in enumerate(others) if other.tolist() != own.tolist()]
    if different:
        raise InputError(
            f"sync_dist: rank {dist.get_rank(group)} sums {', '.join(names)}; other losses on rank "
            f"{', '.join(map(str, different))}. Every rank must call the same losses in the same order."
        )


def _summed(reductions: list[Reduction], group: ProcessGroup | None) -> list[Reduction]:
    """Numerators and denominators summed over the ranks."""
    numerators = [part.numerator for part in reductions]
    device = numerators[0].device
    # counts beyond 2^24 are not exact in float32; mps has no float64
    dtype = torch.float32 if device.type == "mps" else torch.float64
    own = [numerator.detach().to(dtype) for numerator in numerators]
    for part in reductions:
        share = 0.0 if part.denominator is None else part.denominator
        if not isinstance(share, Tensor):  # a size that a compiler does not know makes no torch.tensor
            share = torch.full((), share, dtype=dtype, device=device)
        own.append(share.to(dtype))
    total = torch.stack(own)
    dist.all_reduce(total, group=group)
    ranks, result = world_size(group), []
    for index, part in enumerate(reductions):
        numerator: Tensor = _Global.apply(numerators[index], total[index].to(numerators[index].dtype), ranks)
        denominator = None if part.denominator is None else total[index + len(reductions)].to(numerator.dtype)
        result.append(Reduction(numerator, denominator, part.reduction, None, part.scale))
    return result
