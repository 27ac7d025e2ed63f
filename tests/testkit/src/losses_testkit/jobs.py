"""What the ranks of a distributed test run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from losses_core import BaseLoss, build_loss
from losses_testkit.case import Inputs
from losses_testkit.runs import call, leaves, prepared

_COLLECTIVES = ("all_reduce", "all_gather", "all_gather_into_tensor", "reduce_scatter_tensor", "broadcast")


@contextlib.contextmanager
def counted() -> Iterator[list[tuple[str, int]]]:
    """Collect (name, bytes sent) of each collective."""
    seen: list[tuple[str, int]] = []
    originals = {name: getattr(dist, name) for name in _COLLECTIVES}

    def counting(name: str) -> Any:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            tensor = args[1] if name in ("all_gather", "all_gather_into_tensor", "reduce_scatter_tensor") else args[0]
            seen.append((name, tensor.numel() * tensor.element_size()))
            return originals[name](*args, **kwargs)

        return wrapper

    for name in _COLLECTIVES:
        setattr(dist, name, counting(name))
    try:
        yield seen
    finally:
        for name, function in originals.items():
            setattr(dist, name, function)


RELEASE = tuple(map(int, torch.__version__.split(".")[:2]))

SETTINGS = {"capture_dynamic_output_shape_ops": True} if RELEASE < (2, 10) else {}
"""What docs/guide/compile.md says of losses that gather rows."""


def run_loss(
    config: Any, state: dict[str, Any], inputs: Inputs, keywords: dict[str, Any], compiled: bool, group: Any, rank: int
) -> dict[str, Any]:
    """Value, gradients of pred and of learned parts, and collectives of forward and backward."""
    torch.manual_seed(0)
    loss = build_loss(config)
    loss.load_state_dict(state)
    loss.double()  # gradients of learned parts in the precision of the comparison
    for module in loss.modules():
        if isinstance(module, BaseLoss):
            module.process_group = group
    inputs = prepared(inputs)
    torch._dynamo.reset()  # what other losses of this process were compiled for
    function = torch.compile(loss, fullgraph=True, backend="aot_eager") if compiled else loss
    torch.manual_seed(0)
    # a compiler looks into functions that are exchanged for others, and would trace the counting
    count_collectives = contextlib.nullcontext if compiled else counted
    with count_collectives() as forward, torch._dynamo.config.patch(SETTINGS):
        value = call(function, inputs, **keywords)
    wanted = [*leaves(inputs.pred), *loss.parameters()]
    with count_collectives() as backward:
        gradients = torch.autograd.grad(value, wanted, materialize_grads=True)
    count = len(leaves(inputs.pred))
    return {
        "value": value.detach(),
        "pred": gradients[:count],
        "learned": gradients[count:],
        "forward": forward,
        "backward": backward,
        "state": {name: tensor.clone() for name, tensor in loss.state_dict().items()},
    }


class ScaledLoss(nn.Module):
    """A trained scale before the loss, so that DistributedDataParallel has something to average."""

    def __init__(self, loss: Any) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.loss = loss

    def gradients(self, inputs: Inputs) -> tuple[Tensor, list[Tensor]]:
        """The value of the loss, and the gradients of the scale and of learned parts."""
        torch.manual_seed(0)
        value = self(inputs.pred, inputs.target, inputs.call)
        value.sum().backward()
        return value.detach(), [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters()]

    def forward(self, pred: Any, target: Any, keywords: dict[str, Any]) -> Tensor:
        scaled = type(pred)(self.scale * p for p in pred) if isinstance(pred, list | tuple) else self.scale * pred
        return self.loss(scaled, target, **keywords)  # type: ignore[no-any-return]


def run_ddp(config: Any, state: dict[str, Any], inputs: Inputs, group: Any, rank: int) -> tuple[Tensor, list[Tensor]]:
    """What `ScaledLoss.gradients` gives under DistributedDataParallel."""
    loss = build_loss(config)
    loss.load_state_dict(state)
    model = nn.parallel.DistributedDataParallel(ScaledLoss(loss), process_group=group)
    return ScaledLoss.gradients(model, prepared(inputs, torch.float32))  # type: ignore[arg-type]


def pixel_classifier() -> nn.Module:
    """A small network of three classes per pixel, the same in every process."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 16, 1), nn.ReLU(), nn.Conv2d(16, 3, 1))


def run_sharded(config: Any, x: Tensor, y: Tensor, group: Any, rank: int) -> list[Tensor]:
    """The whole gradients of `pixel_classifier`, which FSDP2 shards, from this rank's part of a batch."""
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import fully_shard

    model = pixel_classifier()
    fully_shard(model, mesh=DeviceMesh.from_group(group, "cpu"))
    loss = build_loss(config)
    assert isinstance(loss, BaseLoss)
    loss.process_group = group
    loss(model(x), y).backward()
    return [parameter.grad.full_tensor() for parameter in model.parameters()]  # type: ignore[union-attr]


def call_function(name: str, tensor: Tensor, group: Any, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """A public helper on this rank's tensor, the gradient g of Σ (rank + 1) · output², and that of Σ (rank + 1) · g."""
    from losses_core import distributed

    tensor = tensor.clone().requires_grad_()
    value = getattr(distributed, name)(tensor, group)
    (gradient,) = torch.autograd.grad(((rank + 1) * value.square()).sum(), tensor, create_graph=True)
    (second,) = torch.autograd.grad(((rank + 1) * gradient).sum(), tensor)
    return value.detach(), gradient.detach(), second


def finish(parts: list[tuple[Tensor, Any]], group: Any, rank: int) -> tuple[list[Tensor], list[Tensor], int]:
    """`compute_all` on this rank's (numerator, denominator): values, gradients of their sum, number of collectives."""
    from losses_core.distributed import compute_all
    from losses_core.utils.weight_reduce import Group, Reduction

    numerators = [numerator.clone().requires_grad_() for numerator, _ in parts]
    with counted() as collectives:
        reductions = [
            Reduction(numerator, denominator, "sum" if denominator is None else "mean", Group(group))
            for numerator, (_, denominator) in zip(numerators, parts, strict=True)
        ]
        values = compute_all(reductions, [str(i) for i in range(len(reductions))])
        gradients = torch.autograd.grad(torch.stack(values).sum(), numerators)
    return [value.detach() for value in values], list(gradients), len(collectives)


def compare(names: list[str], group: Any, rank: int) -> tuple[str, list[float]]:
    """`compute_all` on terms of value 1 of these names inside `debug`: the error, and the sums."""
    from losses_core import InputError, debug
    from losses_core.distributed import compute_all
    from losses_core.utils.weight_reduce import Group, Reduction

    reductions = [Reduction(torch.ones(()), None, "sum", Group(group)) for _ in names]
    try:
        with debug():
            return "", [float(value) for value in compute_all(reductions, names)]
    except InputError as error:
        return str(error), []


def die(group: Any, rank: int) -> float:
    """Rank 1 leaves without a word; the others report how long the collective took to fail."""
    import os
    import time

    if rank == 1:
        os._exit(1)
    start = time.monotonic()
    with contextlib.suppress(RuntimeError):
        dist.all_reduce(torch.zeros(1), group=group)
        return -1.0
    return time.monotonic() - start
