"""The sizes and dtypes at which a step is counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.case import Case, Inputs
from losses_core.utils.precision import map_tensors

LARGE = 256 * 2**20
"""Bytes of pred from which the budgets of memory hold."""


@dataclass(frozen=True)
class Setting:
    """A dtype of all floating inputs, at the size of the case or enlarged until pred has `LARGE` bytes."""

    dtype: torch.dtype
    large: bool

    @property
    def name(self) -> str:
        """As in the stored table: ``bfloat16 large``."""
        return str(self.dtype).removeprefix("torch.") + (" large" if self.large else "")


SETTINGS = {
    setting.name: setting
    for setting in (Setting(dtype, large) for large in (False, True) for dtype in (torch.float32, torch.bfloat16))
}


def inputs_of(case: Case) -> Inputs:
    """The inputs of a case, which have values."""
    return case.inputs(torch.Generator().manual_seed(0))


def at(setting: Setting, case: Case, given: Inputs, device: str = "meta") -> Inputs | None:
    """The inputs of a case in a setting; None where the case has no large size."""
    if setting.large:
        if not case.grows:
            return None
        given = enlarged(given, case.grows, -(-LARGE // setting.dtype.itemsize), device)

    def convert(tensor: Tensor) -> Tensor:
        return tensor.detach().to(device, setting.dtype if tensor.is_floating_point() else tensor.dtype)

    pred, target, call = (map_tensors(convert, part) for part in (given.pred, given.target, dict(given.call)))
    return Inputs(pred.requires_grad_(), target, call)


def enlarged(given: Inputs, axes: Sequence[int], elements: int, device: str = "meta") -> Inputs:
    """Repeat the inputs along axes of pred until it has so many elements; several axes are doubled in turn."""
    old = given.pred.shape
    times = [1] * len(axes)
    if len(axes) == 1:
        times[0] = -(-elements // math.prod(old))
    turn = 0
    while math.prod(old) * math.prod(times) < elements:
        times[turn % len(axes)] *= 2
        turn += 1

    def repeat(tensor: Tensor) -> Tensor:
        """Tensors of the shape of pred, and those that lack its class axis or have its first axis only."""
        counts = [1] * tensor.ndim
        for axis, number in zip(axes, times, strict=True):
            own = axis if axis == 0 else axis - (len(old) - tensor.ndim)
            if 0 <= own < tensor.ndim and tensor.shape[own] == old[axis]:
                counts[own] = number
        return tensor.detach().to(device).repeat(counts)

    pred, target, call = (map_tensors(repeat, part) for part in (given.pred, given.target, dict(given.call)))
    return Inputs(pred, target, call)
