"""Losses that are not computed before it is known what is asked of them: their elements, or nothing but the sum."""

from __future__ import annotations

import abc

import torch
from torch import Tensor

from losses_core.utils.weight_reduce import Reduction, Unreduced, given_denominator


class Deferred(abc.ABC):
    """What ``_forward`` may return instead of the unreduced loss.

    Where only the mean or the sum is asked for, without sample weights, a loss can often be had in one pass that never
    writes its elements out. `BaseLoss` takes that way where `summable` says so, and the elements everywhere else.

    Attributes:
        x: the predictions, which give precision and length of the batch.
    """

    x: Tensor

    @abc.abstractmethod
    def unreduced(self) -> Unreduced:
        """The elements and their normalizer."""

    @property
    @abc.abstractmethod
    def summable(self) -> bool:
        """Whether `total` is the better way here."""

    @abc.abstractmethod
    def total(self, scale: float | Tensor) -> Tensor:
        """``scale`` times the sum of the elements, 0-d; ``scale`` a number or a 0-d tensor without a gradient."""

    @abc.abstractmethod
    def normalizer(self) -> float | Tensor:
        """The sum of the normalizer: the denominator of ``mean``."""

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the loss, float32 or float64."""
        return self.x.dtype

    @property
    def batch(self) -> int:
        """The length of the first axis, by which ``batchmean`` divides."""
        return self.x.shape[0] if self.x.ndim else 1

    def partial_reduce(self, reduction: str, avg_factor: float | Tensor | None) -> Reduction:
        """The sum up to the division; ``reduction`` is not ``none``."""
        denominator = given_denominator(reduction, avg_factor)
        if denominator is None and reduction != "sum":
            denominator = self.batch if reduction == "batchmean" else self.normalizer()
        if isinstance(denominator, Tensor):
            # of whole numbers too: a scale divided by them would be float32
            denominator = denominator.to(self.dtype)
        return Reduction(self, denominator, reduction)
