"""Focused binary cross-entropy against scores with its derivatives, for quality focal and varifocal loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core.utils.stable import logistic_loss_of_targets, power


class Scores:
    """Predictions against scores in [0,1], element by element.

    Args:
        x: logits, or probabilities with ``use_sigmoid=False``.
        t: scores; None where all are 0.
        use_sigmoid: what ``x`` holds.

    Attributes:
        distance: p - t, with p the probability.
        entropy: -t ln p - (1-t) ln(1-p); each logarithm of a probability is at least -100.
    """

    def __init__(self, x: Tensor, t: Tensor | None, *, use_sigmoid: bool) -> None:
        self._x, self._t, self._use_sigmoid = x, t, use_sigmoid
        self._p = torch.sigmoid(x) if use_sigmoid else x
        self.distance = self._p if t is None else self._p - t
        if use_sigmoid:
            # softplus(x) - x t cancels for a large logit that is right
            self.entropy = F.softplus(x) if t is None else logistic_loss_of_targets(x, t)
        else:
            self.entropy = torch.log1p(-x).clamp_(min=-100).neg_()
            if t is not None:
                self.entropy.mul_(1 - t).sub_(x.log().clamp_(min=-100).mul_(t))

    def focus(self, gamma: float) -> Tensor:
        """|p - t|^γ, a new tensor."""
        return self.distance.square() if gamma == 2 else self._power(gamma).clone()

    def _power(self, gamma: float) -> Tensor:
        # a sign matters for odd powers alone
        distance = self.distance if gamma in (2, 4) or self._t is None else self.distance.abs()
        return power(distance, gamma)

    def entropy_grad(self) -> Tensor:
        """d entropy / dx; 0 where a logarithm is bounded."""
        if self._use_sigmoid:
            return self.distance
        tiny = torch.finfo(self._x.dtype).tiny
        x, t = self._x, torch.zeros_like(self._x) if self._t is None else self._t
        rising = torch.where(x.log() > -100, t / x.clamp(min=tiny), 0)
        falling = torch.where(torch.log1p(-x) > -100, (1 - t) / (1 - x).clamp(min=tiny), 0)
        return falling.sub_(rising)

    def focused_grad(self, gamma: float) -> Tensor:
        """d/dx of |p - t|^γ · entropy, a new tensor."""
        # with k = sign(d) |d|^(γ-1): d|d|^γ = γ k and |d|^γ = k d, so one power serves both terms
        d = self.distance
        if self._use_sigmoid:
            grad = torch.addcmul(self._p, self._p, self._p, value=-1).mul_(self.entropy).mul_(gamma).addcmul_(d, d)
        else:
            grad = torch.add(d * self.entropy_grad(), self.entropy, alpha=gamma)
        if gamma == 2:
            return grad.mul_(d)
        if gamma >= 1:
            grad.mul_(self._power(gamma - 1))
        else:
            grad.mul_(d.abs().clamp_(min=torch.finfo(d.dtype).tiny).pow_(gamma - 1))
        return grad if self._t is None else grad.mul_(torch.sign(d))
