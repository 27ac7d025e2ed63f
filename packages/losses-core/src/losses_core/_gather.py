"""Rows of all ranks as operators that a compiler does not look into.

How many rows there are is known only when the ranks have told each other, so a compiler sees a size it does not know;
traced, the exchange would break the graph. Imported at the first gathering: registering takes milliseconds.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from losses_core.distributed import named_group


@torch.library.custom_op(
    "losses_core::gather_rows", mutates_args=(), schema="(Tensor own, str group) -> (Tensor rows, Tensor start)"
)
def gather_rows(own: Tensor, group: str) -> tuple[Tensor, Tensor]:
    """The rows (ΣN,…) of all ranks, and the place of the first own one."""
    handle = named_group(group)
    number = torch.tensor([own.shape[0]], device=own.device)
    numbers = [torch.empty_like(number) for _ in range(dist.get_world_size(handle))]
    dist.all_gather(numbers, number, group=handle)
    sizes: list[int] = torch.cat(numbers).tolist()
    # collectives need one shape: every shard is padded to the largest, and cut again
    padded = own.new_zeros(max(sizes), *own.shape[1:])
    padded[: own.shape[0]] = own
    shards = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(shards, padded, group=handle)
    rows = torch.cat([shard[:size] for shard, size in zip(shards, sizes, strict=True)])
    return rows, torch.tensor(sum(sizes[: dist.get_rank(handle)]), device=own.device)


@torch.library.custom_op(
    "losses_core::sum_own_rows",
    mutates_args=(),
    schema="(Tensor rows, Tensor start, SymInt number, str group) -> Tensor",
)
def sum_own_rows(rows: Tensor, start: Tensor, number: int, group: str) -> Tensor:
    """The own rows of the sum over the ranks: the way back of a gradient."""
    total = rows.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=named_group(group))
    return total.index_select(0, start + torch.arange(number, device=rows.device))


@gather_rows.register_fake
def _(own: Tensor, group: str) -> tuple[Tensor, Tensor]:
    number = torch.library.get_ctx().new_dynamic_size()
    return own.new_empty(number, *own.shape[1:]), own.new_empty((), dtype=torch.int64)


@sum_own_rows.register_fake
def _(rows: Tensor, start: Tensor, number: int, group: str) -> Tensor:
    return rows.new_empty(number, *rows.shape[1:])


def _keep_place(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    own, ctx.group = inputs
    ctx.number = own.shape[0]
    ctx.save_for_backward(output[1])
    ctx.mark_non_differentiable(output[1])


def _gather_backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None]:
    (start,) = ctx.saved_tensors
    return sum_own_rows(grad, start, ctx.number, ctx.group), None


def _keep_group(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.group = inputs[3]


def _sum_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
    return gather_rows(grad, ctx.group)[0], None, None, None


gather_rows.register_autograd(_gather_backward, setup_context=_keep_place)
sum_own_rows.register_autograd(_sum_backward, setup_context=_keep_group)
