"""The most memory that tensors take at once while something runs, on whatever device they are."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from losses_core.utils.torch_compat import TorchDispatchMode


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of the tensors that are made inside and still alive; `peak` is the highest count.

    What an operation allocates and frees within itself is not seen.

    Example:
        >>> import torch
        >>> with PeakMemory() as memory:
        ...     large = torch.zeros(1000)
        ...     del large
        ...     small = torch.zeros(500)
        >>> memory.peak
        4000
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._alive: dict[int, int] = {}  # address of a storage → its bytes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {_address(tensor) for tensor in _tensors((args, kwargs))}  # a view or an in-place result is nothing new
        for tensor in _tensors(result):
            address = _address(tensor)
            if address not in given and address not in self._alive:
                storage = tensor.untyped_storage()
                self._alive[address] = storage.nbytes()
                weakref.finalize(storage, self._alive.pop, address, None)
        self.peak = max(self.peak, sum(self._alive.values()))
        return result


def _tensors(tree: Any) -> Iterator[Tensor]:
    """The tensors of nested arguments; torch's own search takes longer than most operations."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, (list, tuple)):
        for item in tree:
            yield from _tensors(item)
    elif isinstance(tree, dict):
        yield from _tensors(tuple(tree.values()))


def _address(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
