"""What is tried: losses, inputs, and the libraries that have the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.case import Function, Inputs
from bench.edges.exact import Exact

COLUMNS = {
    "losses": "this library",
    "torch": "torch",
    "torchvision": "torchvision",
    "fvcore": "fvcore",
    "monai": "MONAI",
    "smp": "smp",
    "kornia": "kornia",
    "timm": "timm",
    "mmdet": "mm\\*",
    "mmseg": "mm\\*",
    "mmpretrain": "mm\\*",
    "mmrazor": "mm\\*",
    "torchdistill": "torchdistill",
    "pytorch-metric-learning": "PML",
}
"""Library → its column; each library is tried in a process of its own."""


@dataclass(frozen=True)
class Edge:
    """One row.

    Attributes:
        given: makes the inputs.
        option: what of a loss the row needs: ``ignore``, ``weight``, or ``none``, the unreduced loss of which the last
            entry is not looked at.
        bounds: limits of the right value where it is not the exact one; infinite ones where any finite value will do.
        still: a gradient of zero is right.
        compiled: under ``torch.compile(fullgraph=True)``.
    """

    name: str
    given: Callable[[], Inputs]
    option: str | None = None
    bounds: tuple[float, float] | None = None
    still: bool = False
    compiled: bool = False


@dataclass(frozen=True)
class Implementation:
    """The loss of one library.

    Attributes:
        make: the function, for the option of a row.
        exact: the right value by its own definition.
        options: those it has.
        still: rows where a gradient of zero is right by its definition, or ``*`` for all.
    """

    make: Callable[[str | None], Function]
    exact: Exact
    options: frozenset[str] = frozenset()
    still: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Subject:
    """One loss.

    Attributes:
        ordinary: an input without edges, on which every implementation has to be right before its row counts.
    """

    name: str
    group: str
    ordinary: Callable[[], Inputs]
    edges: tuple[Edge, ...]
    libraries: Mapping[str, Implementation]
