"""Per-class parameters of a loss (class_weight, pos_weight, a list alpha): kept as given, used as a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from losses_core.errors import InputError
from losses_core.utils import checks


class PerClassVectors(nn.Module):
    """A module with parameters that hold one number per class."""

    def __init__(self) -> None:
        super().__init__()
        self._vectors: tuple[str, ...] = ()

    def _set_vector(self, name: str, given: float | Sequence[float] | Tensor | None) -> None:
        """Store a per-class parameter as given; a list or tensor of it also as the private buffer ``_<name>``.

        The buffer is not persistent and is rebuilt from what was given whenever the module moves, so that neither
        ``.half()`` nor ``.to_empty()`` can change it.
        """
        given = checks.vector(self, name, given)
        setattr(self, name, given)
        if given is not None and not isinstance(given, (int, float)):
            self._vectors += (name,)
            self.register_buffer(f"_{name}", _as_buffer(given, torch.device("cpu")), persistent=False)

    def _vector(self, name: str, pred: Tensor, length: int) -> Tensor | None:
        """The tensor of a per-class parameter on the device of ``pred``, in at least float32; None for None.

        A single number is returned as a 0-d tensor; anything else must have ``length`` entries.
        """
        given, dtype = getattr(self, name), torch.float64 if pred.dtype == torch.float64 else torch.float32
        if given is None:
            return None
        if name not in self._vectors:
            return torch.full((), given, dtype=dtype, device=pred.device)
        buffer: Tensor = getattr(self, f"_{name}")
        if buffer.shape[0] != length:
            raise InputError(
                f"{name}: expected {length} entries, one per class of pred {tuple(pred.shape)}; got {buffer.shape[0]}."
            )
        if buffer.device != pred.device and not torch.compiler.is_compiling():
            # once, so that a loss that was never moved does not copy (and wait) at every step
            buffer = _as_buffer(given, pred.device)
            setattr(self, f"_{name}", buffer)
        return buffer.to(pred.device, dtype)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name in self._vectors:
            device = self._buffers[f"_{name}"].device  # type: ignore[union-attr]
            self._buffers[f"_{name}"] = _as_buffer(getattr(self, name), device)
        return self


def _as_buffer(given: Sequence[float] | Tensor, device: torch.device) -> Tensor:
    # float64, so that float64 input sees the numbers as written; mps has no float64
    dtype = torch.float32 if device.type == "mps" else torch.float64
    if isinstance(given, Tensor):
        return given.detach().to(device, dtype, copy=True)
    return torch.tensor([float(x) for x in given], dtype=dtype, device=device)
