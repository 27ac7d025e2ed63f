"""Gradients of relations between rows."""

from __future__ import annotations

import torch
from torch import Tensor


def unit_backward(grad: Tensor, unit: Tensor, length: Tensor) -> Tensor:
    """The gradient with respect to rows, from that of the rows over their lengths; ``grad`` is overwritten."""
    return grad.addcmul_(unit, (unit * grad).sum(1, keepdim=True), value=-1).div_(length)


def distances_backward(grad: Tensor, centered: Tensor, scale: float = 1) -> Tensor:
    """The gradient with respect to rows, from ``scale`` times that of their squared distances, which is symmetric.

    ``centered`` are the rows minus their mean, which cancels but for rounding.
    """
    return torch.addmm(grad.sum(1, keepdim=True) * centered, grad, centered, beta=4 * scale, alpha=-4 * scale)
