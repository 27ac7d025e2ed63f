"""Gradients of relations between rows."""

from __future__ import annotations

import torch
from torch import Tensor


def unit_backward(grad: Tensor, unit: Tensor, length: Tensor) -> Tensor:
    """The gradient with respect to rows, from that of the rows over their lengths; ``grad`` is overwritten."""
    return grad.addcmul_(unit, (unit * grad).sum(1, keepdim=True), value=-1).div_(length)


def distances_backward(grad: Tensor, x: Tensor) -> Tensor:
    """The gradient with respect to rows, from that of their squared distances, which is symmetric."""
    x = x - x.mean(0)  # it cancels, but for rounding
    return torch.addmm(grad.sum(1, keepdim=True) * x, grad, x, beta=4, alpha=-4)
