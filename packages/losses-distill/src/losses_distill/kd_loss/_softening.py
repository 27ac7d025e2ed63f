"""From logits to softened probabilities: the temperature and, where asked for, the standardisation of logits."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Softening:
    """z = x/T, or (x - mean)/(std·T), along one axis, and the way back for a gradient."""

    axis: int
    temperature: float
    standardize: bool = False

    def scaled(self, x: Tensor) -> Tensor:
        if self.standardize:
            x = standardized(x, self.axis)[0]
        return x if self.temperature == 1 else x / self.temperature

    def log_probabilities(self, x: Tensor) -> Tensor:
        return F.log_softmax(self.scaled(x), self.axis)

    def probabilities(self, x: Tensor) -> Tensor:
        return F.softmax(self.scaled(x), self.axis)

    def pull(self, x: Tensor, grad: Tensor) -> Tensor:
        """The gradient of ``x``, from T times that of z."""
        if not self.standardize:
            return grad
        z, std = standardized(x, self.axis)
        finite = z > -torch.inf
        z = torch.where(finite, z, 0)
        n = finite.sum(self.axis, keepdim=True).clamp(min=1)
        # a position without spread has std inf, and so no gradient
        tangent = grad - grad.sum(self.axis, keepdim=True) / n - z * (grad * z).sum(self.axis, keepdim=True) / n
        return torch.where(finite, tangent, 0) / std


def standardized(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """(x - mean)/std along an axis, and the std; logits of -inf stay what they are and are not counted.

    Where the spread is no more than rounding, z is 0 and the std inf.
    """
    finite = x != -torch.inf
    n = finite.sum(axis, keepdim=True).clamp(min=1)
    mean = torch.where(finite, x, 0).sum(axis, keepdim=True) / n
    centred = torch.where(finite, x - mean, 0)
    square = (centred * centred).sum(axis, keepdim=True) / n
    rounding = 8 * torch.finfo(x.dtype).eps * mean.abs()
    flat = square <= rounding * rounding
    std = torch.where(flat, 1, square).sqrt().masked_fill(flat, torch.inf)
    return torch.where(finite, centred / std, -torch.inf), std
