"""Squared distances between all rows, from one matrix product."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from losses_core.utils.autograd import Function


class _SquaredDistances(Function):
    """(N,N) from (N,D). Keeps x."""

    @staticmethod
    def forward(x: Tensor, wide: bool) -> Tensor:
        centred = _centred(x.double() if wide and x.device.type != "mps" else x)
        product = centred @ centred.T
        square = _diagonal(product)
        sums = square.unsqueeze(0) + square.unsqueeze(1)
        distances = torch.add(sums, product, alpha=-2)
        # equal rows differ by rounding here, and would have a direction of rounding errors
        rounding = sums * (8 * torch.finfo(sums.dtype).eps)
        return torch.where(distances <= rounding, 0, distances).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, bool], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        weight = grad + grad.T
        # 2 Σ_j w_ij (x_i - x_j); the mean cancels in exact arithmetic, and costs digits in floating point
        x = _centred(x)
        return torch.addmm(weight.sum(1, keepdim=True) * x, weight, x, beta=2, alpha=-2), None


def _diagonal(product: Tensor) -> Tensor:
    if not torch.compiler.is_compiling():
        return product.diagonal()
    # Inductor may keep a view beside what it is of, and write into that in the backward before it reads the view
    return torch.where(torch.eye(product.shape[0], dtype=torch.bool, device=product.device), product, 0).sum(1)


def _centred(x: Tensor) -> Tensor:
    """x minus its batch mean: |a|² + |b|² - 2ab errs by hundreds of per cent on features with an offset."""
    return x - x.mean(0, keepdim=True)


def squared_distances(x: Tensor, eps: float, *, wide: bool = False) -> Tensor:
    """(N,N) squared distances of the rows of (N,D); those that do not exceed ``eps`` or rounding are exactly 0.

    Args:
        x: (N,D).
        eps: see above.
        wide: form the product in float64 where the device has it: for what divides by distances, and so sees how the
            digits of close rows blur.
    """
    distances: Tensor = _SquaredDistances.apply(x, wide)
    return distances.masked_fill(distances <= eps, 0)
