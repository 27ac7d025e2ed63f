"""Running a loss on inputs: casting, gradients, poisoning, watching what the engine does."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from losses_core import BaseLoss
from losses_core.utils.precision import map_tensors
from losses_testkit.case import Inputs


def leaves(tree: Any) -> list[Tensor]:
    """The tensors of a tree, in order."""
    found: list[Tensor] = []

    def collect(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(collect, tree)
    return found


def prepared(
    inputs: Inputs, dtype: torch.dtype = torch.float64, change: Callable[[Tensor], Tensor] | None = None
) -> Inputs:
    """Copies of the inputs with floating tensors in ``dtype``; pred (changed by ``change``) requires a gradient."""

    def cast(tensor: Tensor) -> Tensor:
        return tensor.detach().clone().to(dtype) if tensor.is_floating_point() else tensor.clone()

    def lead(tensor: Tensor) -> Tensor:
        return cast(change(tensor) if change else tensor).requires_grad_()

    return Inputs(map_tensors(lead, inputs.pred), map_tensors(cast, inputs.target), map_tensors(cast, inputs.call))


def call(loss: Callable[..., Tensor], inputs: Inputs, **keywords: Any) -> Tensor:
    """The loss of the inputs."""
    return loss(inputs.pred, inputs.target, **{**inputs.call, **keywords})


def run(loss: Callable[..., Tensor], inputs: Inputs, **keywords: Any) -> tuple[Tensor, list[Tensor]]:
    """Value, and the gradient of its sum with respect to each tensor of pred; a pred that gets none fails."""
    value = call(loss, inputs, **keywords)
    return value.detach(), list(torch.autograd.grad(value.sum(), leaves(inputs.pred)))


def poisoned(inputs: Inputs, mask: Any, poison: float) -> Inputs:
    """The inputs with ``poison`` in pred where the mask is true."""
    masks = iter(leaves(mask))
    return dataclasses.replace(inputs, pred=map_tensors(lambda t: t.masked_fill(next(masks), poison), inputs.pred))


def sized_mean(loss: BaseLoss) -> str:
    """A reduction of this class that gives a scalar."""
    return "mean" if "mean" in loss.reductions else loss.reductions[-1]


_SYNCS = (
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "is_nonzero",
    "equal",
    "unique",
    "nonzero_numpy",
    "argwhere",
)


def waits_for_device(func: Any, args: Any) -> bool:
    """Whether an operation of aten waits for the device: a value is read, a shape depends on data."""
    name = func.overloadpacket.__name__
    if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
        return any(isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8) for i in args[1] if i is not None)
    return name in _SYNCS or name.startswith("unique")


def on_meta(inputs: Inputs) -> Inputs:
    """The inputs without values; the leaves of pred require a gradient again."""

    def lead(tensor: Tensor) -> Tensor:
        return tensor.detach().to("meta").requires_grad_(tensor.requires_grad)

    return Inputs(*(map_tensors(lead, part) for part in (inputs.pred, inputs.target, inputs.call)))


def grown(inputs: Inputs, batch: int, repeats: int) -> Inputs:
    """Inputs on meta with a batch that is ``repeats`` times as long."""

    def grow(tensor: Tensor) -> Tensor:
        if not tensor.ndim or tensor.shape[0] != batch:
            return tensor
        larger = torch.empty(batch * repeats, *tensor.shape[1:], dtype=tensor.dtype, device="meta")
        return larger.requires_grad_(tensor.requires_grad)

    return Inputs(*(map_tensors(grow, part) for part in (inputs.pred, inputs.target, inputs.call)))


@contextlib.contextmanager
def saved_floats() -> Iterator[dict[int, int]]:
    """Collect the bytes saved for backward in floating and bool tensors: storage address → bytes."""
    saved: dict[int, int] = {}
    keep: list[Tensor] = []  # so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        if tensor.is_floating_point() or tensor.dtype == torch.bool:
            storage = tensor.untyped_storage()
            saved[storage.data_ptr()] = storage.nbytes()
            keep.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield saved
