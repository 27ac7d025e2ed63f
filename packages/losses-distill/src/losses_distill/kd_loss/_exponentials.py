"""Exponentials of student and teacher side by side, on the host."""

from __future__ import annotations

import torch
from torch import Tensor

from losses_core.utils import host

_LARGE = 2.0**24


class Exponentials:
    """Those of one block after another, in the same memory.

    Attributes:
        both: of student and teacher, (2,A,C,P) or (2,A,C).
        student: the first half of it.
        teacher: the second half.
        gap: teacher's logits minus the student's.
    """

    def __init__(self, x: Tensor) -> None:
        """For blocks of the shape of ``x``."""
        self._all = torch.empty((3, *x.shape), dtype=x.dtype)
        self.both = self._all[:2]
        self.student, self.teacher, self.gap = self._all

    def fill(self, x: Tensor, t: Tensor, temperature: float, hidden: Tensor | None) -> None:
        """exp(z/T) of both; where hidden, that of equal logits."""
        factor = host.LOG2E / temperature
        torch.mul(x, factor, out=self.student)
        torch.mul(t, factor, out=self.teacher)
        torch.sub(t, x, out=self.gap)
        if hidden is not None:
            host.zero_where_(self._all, hidden)
        self.both.exp2_()

    def dot(self) -> float:
        """Σ gap times what became of the teacher's exponentials."""
        return torch.dot(self.teacher.view(-1), self.gap.view(-1)).item()


def sound(sums: Tensor, classes: int) -> bool:
    """Whether sums of exponentials come of logits so small that their largest need not be taken off.

    That costs no digit of the probabilities that count. NaN is not sound.
    """
    low, high = (end.item() for end in sums.aminmax())
    return classes / _LARGE < low and high < classes * _LARGE
