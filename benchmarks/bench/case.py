"""A case: one loss at one size, its peers, and what all of them are given."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., Tensor]


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a loss is called with; ``pred`` is what asks for the gradient."""

    pred: Tensor
    target: Any
    call: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Peer:
    """A loss of another library.

    Attributes:
        make: imports the library and gives a function that is called as ours is, or raises `bench.peers.Missing`.
        variant: how its definition differs; None where value and gradient are to agree with ours.
        share: gives ours and theirs the same state where each draws its own: ``share(ours, theirs)``.
    """

    make: Callable[[], Function]
    variant: str | None = None
    share: Callable[[Any, Any], None] | None = None


@dataclasses.dataclass(frozen=True)
class Case:
    """One loss at one size.

    Attributes:
        name: loss and size: ``iou_300``.
        package: the distribution of the loss, a heading of the table.
        config: of our loss.
        inputs: the tensors, from a generator.
        peers: by the name of their library.
        elementwise: a loss of single elements, which a compiler makes one loop of.
        grows: axes of pred along which the inputs are enlarged to count an accelerator's cost; none: they are not, as
            another case is the same then, or as pred is not what takes the memory.
        budget: largest peak of memory of a large input in bfloat16, beyond pred and target, in units of pred's bytes;
            None: none is set, for losses with convolutions and for relations between samples.
    """

    name: str
    package: str
    config: Mapping[str, Any]
    inputs: Callable[[torch.Generator], Inputs]
    peers: Mapping[str, Peer]
    elementwise: bool = False
    grows: tuple[int, ...] = (0,)
    budget: float | None = 1.5
