"""Kernel of the attention maps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from losses_core.kernels import kernel
from losses_distill.feature_loss.attention import power_of_magnitude, power_sums


@kernel(power_sums, passes=2, temporaries=6, large_blocks=True)
class PowerSums:
    """Sum over the channels of a block in the forward; the gradient needs nothing but the features."""

    number = 1

    @staticmethod
    def forward(x: Tensor, target: tuple[()], *, p: float, scale: Tensor | None) -> Tensor:
        """Σ_c |A_c / scale|^p, (n,1,L)."""
        x = x.mT  # (n,C,L), as a feature map is in memory
        return power_of_magnitude(x if scale is None else x / scale, p).sum(1, keepdim=True)

    @staticmethod
    def backward(x: Tensor, target: tuple[()], grads: Tensor, *, p: float, scale: Tensor | None) -> Tensor:
        """p |A_c / scale|^(p-1) sign(A_c) / scale, times the incoming gradient of the location; 0 where A_c is 0."""
        x, grads = x.mT, grads * p
        sign = x.sign()
        if scale is not None:
            x, grads = x / scale, grads / scale
        tiny = torch.finfo(x.dtype).tiny
        return x.abs().clamp_(min=tiny).pow_(p - 1).mul_(sign).mul_(grads).mT


def _squares(pred: Tensor, target: tuple[()], *, p: float, scale: Tensor | None) -> bool:
    return p == 2 and scale is None


@kernel(power_sums, passes=2, temporaries=3, supports=_squares)
class SquareSums:
    """The same for squares."""

    number = 1

    @staticmethod
    def forward(x: Tensor, target: tuple[()], **_: Any) -> Tensor:
        """Σ_c A_c², (n,1,L), by the norm, which stores no squares."""
        norm: Tensor = torch.linalg.vector_norm(x.mT, dim=1, keepdim=True)
        return norm.square_()

    @staticmethod
    def backward(x: Tensor, target: tuple[()], grads: Tensor, **_: Any) -> Tensor:
        """2 A_c, times the incoming gradient of the location."""
        return (x.mT * (2 * grads)).mT


@kernel(power_sums, passes=2, device="cpu", large_blocks=True, supports=_squares)
class SquareSumsOnCpu(SquareSums):
    """The same with the squares stored, in the cache: there a CPU is faster."""

    @staticmethod
    def forward(x: Tensor, target: tuple[()], **_: Any) -> Tensor:
        """Σ_c A_c², (n,1,L)."""
        return (x * x).mT.sum(1, keepdim=True)
