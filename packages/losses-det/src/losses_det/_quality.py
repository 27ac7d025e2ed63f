"""Binary cross-entropy against continuous scores, focused: what quality focal and varifocal loss share."""

from __future__ import annotations

import torch
from torch import Tensor

from losses_core.utils import temporaries
from losses_core.utils.elementwise import power
from losses_core.utils.logistic import logistic


class Scores:
    """Predictions against scores in [0,1], element by element.

    Args:
        x: logits, or probabilities with ``use_sigmoid=False``.
        t: scores; None where all are 0.
        use_sigmoid: what ``x`` holds.

    Attributes:
        distance: p - t, with p the probability.
        entropy: -t ln p - (1-t) ln(1-p); of probabilities each logarithm is at least -100, as in torch.
    """

    def __init__(self, x: Tensor, t: Tensor | None, *, use_sigmoid: bool) -> None:
        self._x, self._t, self._use_sigmoid = x, t, use_sigmoid
        self._p = torch.sigmoid(x) if use_sigmoid else x
        self.distance = self._p if t is None else self._p - t
        if use_sigmoid:
            self.entropy = logistic(x, t)
        else:
            negative = -torch.log1p(-x).clamp(min=-100)
            self.entropy = negative if t is None else negative * (1 - t) - t * x.log().clamp(min=-100)

    def focus(self, gamma: float) -> Tensor:
        """|p - t|^γ."""
        return self.distance.square() if gamma == 2 else self._power(gamma)

    def _power(self, gamma: float) -> Tensor:
        # a sign matters for odd powers alone, and what is not whole is bounded: a power below 1 has a finite derivative
        distance = self.distance if gamma in (2, 4) or self._t is None else self.distance.abs()
        return power(distance, gamma)

    def entropy_slope(self) -> Tensor:
        """d entropy / dx; 0 where a logarithm is bounded."""
        if self._use_sigmoid:
            return self.distance
        tiny = torch.finfo(self._x.dtype).tiny
        x, t = self._x, torch.zeros_like(self._x) if self._t is None else self._t
        rising = torch.where(x.log() > -100, t / x.clamp(min=tiny), 0)
        falling = torch.where(torch.log1p(-x) > -100, (1 - t) / (1 - x).clamp(min=tiny), 0)
        return falling - rising

    def focused_slope(self, gamma: float) -> Tensor:
        """d/dx of |p - t|^γ · entropy."""
        # with k = sign(d) |d|^(γ-1): d|d|^γ = γ k and |d|^γ = k d, so one power serves both terms
        d = self.distance
        if self._use_sigmoid:
            dp = temporaries.mul(
                temporaries.mul(torch.addcmul(self._p, self._p, self._p, value=-1), self.entropy), gamma
            )
            change = temporaries.addcmul(dp, d, d)
        else:
            change = torch.add(d * self.entropy_slope(), self.entropy, alpha=gamma)
        if gamma == 2:
            return temporaries.mul(change, d)
        change = temporaries.mul(change, self._power(gamma - 1) if gamma >= 1 else self._reciprocal_power(gamma))
        return change if self._t is None else temporaries.mul(change, torch.sign(d))

    def _reciprocal_power(self, gamma: float) -> Tensor:
        """|p - t|^(γ-1), bounded."""
        return self.distance.abs().clamp(min=torch.finfo(self._x.dtype).tiny).pow(gamma - 1)
