"""Count the kernels, the bytes and the memory of a forward and backward."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._library.custom_ops import OPDEFS
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.accelerator.shapes import Shapes
from bench.case import Function, Inputs
from losses_core._memory import PeakMemory

LAUNCH = 5e-6
"""Seconds that a kernel takes at least."""
BANDWIDTH = 4e12
"""Bytes per second."""

_ALLOCATIONS = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
_VIEWS = {"_unsafe_view", "_reshape_alias", "detach_", "squeeze_", "unsqueeze_", "t_", "transpose_", "as_strided_"}
"""Those that their schema does not declare as views."""

_RANDOM = {"rand", "randn", "rand_like", "randn_like", "randint", "randperm", "bernoulli_", "uniform_", "normal_"}
_FILLS = _RANDOM | {
    *("zeros", "ones", "full", "zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full"),
    *("fill_", "zero_", "arange", "linspace", "eye", "scalar_tensor"),
}
"""Operators that write and read nothing."""


@dataclass(frozen=True)
class Figures:
    """What one forward and backward costs.

    Attributes:
        kernels: operators that are not views.
        bytes: read and written by them.
        seconds: estimated: the sum over kernels of the larger of `LAUNCH` and their bytes over `BANDWIDTH`.
        saved: bytes that the forward leaves allocated for the backward, beyond pred and target.
        peak: most bytes allocated at once, beyond pred and target.
        pred: bytes of pred.
    """

    kernels: int
    bytes: int
    seconds: float
    saved: int
    peak: int
    pred: int


def _python_body(func: Any) -> Callable[..., Any] | None:
    """The Python function of a custom operator: what it runs counts, not the call."""
    custom = OPDEFS.get(func._schema.name)
    return None if custom is None else custom._init_fn


class Traffic(TorchDispatchMode):
    """Count kernels and the bytes that they read and write.

    An operator counts as one kernel. It reads each of its operands in full, an expanded one only as far as it is
    stored; an in-place one reads and writes its operand; a fill only writes.

    Example:
        >>> import torch
        >>> with Traffic() as traffic:
        ...     _ = torch.zeros(10, 10, device="meta").add_(torch.ones(10, 1, device="meta").expand(10, 10))
        >>> traffic.kernels, traffic.bytes  # zeros, ones, add_
        (3, 1280)
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kernels, self.bytes, self.seconds = 0, 0, 0.0
        self.operators: list[tuple[str, int]] = []
        self._shapes = Shapes()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if body := _python_body(func):
            with self:
                return body(*args, **(kwargs or {}))
        result = self._shapes.call(func, args, kwargs or {})
        self._count(func, args, kwargs or {}, result)
        return result

    def _count(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        name = func.overloadpacket.__name__
        if func.is_view or name in _VIEWS or name in _ALLOCATIONS or func.namespace == "prim":
            return
        read, written = _operands(func, args, kwargs, result)
        if not (read or written):
            return
        moved = sum(map(stored_bytes, (*read.values(), *written.values())))
        self.kernels += 1
        self.bytes += moved
        self.seconds += max(LAUNCH, moved / BANDWIDTH)
        self.operators.append((name, moved))


_Operands = dict[tuple[Any, ...], Tensor]


def _operands(func: Any, args: Any, kwargs: Any, result: Any) -> tuple[_Operands, _Operands]:
    """The tensors that an operator reads and those that it writes."""
    name = func.overloadpacket.__name__
    read: _Operands = {}
    written = {_identity(tensor): tensor for tensor in _tensors(result)}
    positional = [argument for argument in func._schema.arguments if not argument.kwarg_only]
    given = [*zip(positional, args, strict=False), *((a, kwargs[a.name]) for a in _named(func, kwargs))]
    for argument, value in given:
        mutated = argument.alias_info is not None and argument.alias_info.is_write
        write_only = mutated and (argument.is_out or name == "copy_")
        for tensor in _tensors(value):
            if mutated:
                written.setdefault(_identity(tensor), tensor)
            if not (write_only or name in _FILLS):
                read.setdefault(_identity(tensor), tensor)
    return read, written


def _named(func: Any, kwargs: Any) -> Iterator[Any]:
    return (argument for argument in func._schema.arguments if argument.name in kwargs)


def _identity(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.untyped_storage()._cdata, tensor.storage_offset(), tensor.shape, tensor.stride()


def _tensors(tree: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def stored_bytes(tensor: Tensor) -> int:
    """Bytes of the distinct elements of a tensor: those of an expanded axis count once."""
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    distinct = math.prod(size for size, stride in sizes if stride != 0 or size == 0) * tensor.element_size()
    return min(distinct, tensor.untyped_storage().nbytes())


class Memory(PeakMemory):
    """`PeakMemory` that also knows what is alive now, and sees into custom operators."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if body := _python_body(func):
            with self:
                return body(*args, **(kwargs or {}))
        return super().__torch_dispatch__(func, types, args, kwargs)

    @property
    def alive(self) -> int:
        """Bytes that are allocated now."""
        return sum(self._alive.values())


def memory(function: Function, given: Inputs) -> tuple[int, int]:
    """Bytes that the forward leaves for the backward, and the most bytes at once, both beyond pred and target."""
    with Memory() as used:
        value = function(given.pred, given.target, **given.call)
        saved = used.alive - value.untyped_storage().nbytes()
        gradient = _backward(value, given.pred)
        del gradient
    return saved, used.peak


def count(function: Function, given: Inputs, *, settle: bool = True) -> Figures:
    """Count one forward and backward; ``settle``: after another, which is to make what is made once."""
    if settle:
        _backward(function(given.pred, given.target, **given.call), given.pred)
    with Traffic() as traffic:
        saved, peak = memory(function, given)
    pred = given.pred.numel() * given.pred.element_size()
    return Figures(traffic.kernels, traffic.bytes, traffic.seconds, saved, peak, pred)


def _backward(value: Tensor, pred: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(value.sum() if value.ndim else value, pred)
    assert gradient.dtype == pred.dtype
    return gradient
