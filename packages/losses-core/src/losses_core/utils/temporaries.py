"""Arithmetic on a temporary of one's own: in place, unless the operations are recorded by autograd or transformed.

The first argument is given up: only what is returned may be used afterwards.
"""

from __future__ import annotations

import torch
from torch import Tensor

from losses_core.utils.autograd import transforms_active


def _kept() -> bool:
    """Whether what a temporary holds may be needed later; a compiler decides that itself."""
    return torch.is_grad_enabled() or transforms_active() or torch.compiler.is_compiling()


def add(x: Tensor, other: Tensor | float, alpha: float = 1) -> Tensor:
    """x + alpha · other"""
    return torch.add(x, other, alpha=alpha) if _kept() else x.add_(other, alpha=alpha)


def sub(x: Tensor, other: Tensor | float) -> Tensor:
    """x - other"""
    return x - other if _kept() else x.sub_(other)


def mul(x: Tensor, other: Tensor | float) -> Tensor:
    """x · other"""
    return x * other if _kept() else x.mul_(other)


def addcmul(x: Tensor, a: Tensor, b: Tensor, value: float = 1) -> Tensor:
    """x + value · a · b"""
    return torch.addcmul(x, a, b, value=value) if _kept() else x.addcmul_(a, b, value=value)


def masked_fill(x: Tensor, where: Tensor, value: float = 0) -> Tensor:
    """``value`` where a mask is true."""
    return x.masked_fill(where, value) if _kept() else x.masked_fill_(where, value)


def clamp(x: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    """x held in [low, high]."""
    return x.clamp(low, high) if _kept() else x.clamp_(low, high)
