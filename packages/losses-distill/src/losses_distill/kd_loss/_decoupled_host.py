"""The decoupled divergences on the host: summed, with their gradient, block by block."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from losses_core.utils import host
from losses_core.utils.summed import handed_on, number, wanted
from losses_distill._blocks import blocks, vectors
from losses_distill.kd_loss._decoupled import Decoupled, of_odds
from losses_distill.kd_loss._exponentials import Exponentials, sound


def summed_decoupled(x: Tensor, t: Tensor, labels: Tensor, formula: Decoupled, complete: bool, scale: float) -> Tensor:
    """``scale`` times the sum of ``formula``; ``complete`` where it is known that no label is ignored."""
    return _Summed.apply(x, t, labels, formula, complete, scale, wanted(x))  # type: ignore[no-any-return]


class _Summed(host.HostFunction):
    """Keeps the student's logits and their gradient, and the labels."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        t: Tensor,
        labels: Tensor,
        formula: Decoupled,
        complete: bool,
        scale: float,
        slope_wanted: bool,
    ) -> Tensor:
        slope = torch.empty(x.shape, dtype=x.dtype) if slope_wanted else None
        axis = formula.axis
        index, hidden = (labels.unsqueeze(axis), None) if complete else formula.index(labels)
        run = _Run(
            formula.along(1),
            scale,
            vectors(x, axis),
            vectors(t, axis),
            None if slope is None else vectors(slope, axis),
            vectors(index, axis),
            None if hidden is None else vectors(hidden.unsqueeze(axis), axis),
        )
        value = run.of_moderate()
        if value is None:
            value = run.of_any()
        ctx.formula, ctx.scale = formula, scale
        ctx.save_for_backward(x, slope, labels)
        return number(value * scale, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, slope, labels = ctx.saved_tensors
        formula: Decoupled = ctx.formula
        if torch.is_grad_enabled():
            moving = formula.moving(x, labels, slope, ctx.scale)
            gradient = (slope + (moving - moving.detach())) * grad
        else:
            gradient = handed_on(slope, grad)
        return gradient, None, None, None, None, None, None


class _Run:
    """Two ways to the sum, without ``scale``; the slope, where wanted, is written, with it.

    All tensors are (A,C,P) or (A,C), with one class those of the labels and of where to count nothing.
    """

    def __init__(
        self,
        formula: Decoupled,
        scale: float,
        x: Tensor,
        t: Tensor,
        slope: Tensor | None,
        index: Tensor,
        hidden: Tensor | None,
    ) -> None:
        self.formula, self.factor = formula, formula.temperature * scale
        self.classes = x.shape[1]
        self.tensors = x, t, slope, index, hidden

    def of_moderate(self) -> float | None:
        """None where logits are large, -inf or NaN."""
        temperature, alpha, beta = self.formula.temperature, self.formula.alpha, self.formula.beta
        pair, sums, total, true_total = None, [], 0.0, 0.0
        for x, t, slope, index, hidden in blocks(*self.tensors, size=2 * host.BLOCK):
            if pair is None or pair.gap.shape != x.shape:
                pair = Exponentials(x)
            pair.fill(x, t, temperature, hidden)
            two = index.expand(2, *index.shape)
            true = pair.both.gather(2, two)
            pair.both.scatter_(2, two, 0)
            rest = pair.both.sum(2, keepdim=True)
            sums.append(rest.view(2, -1))
            odds = true.div_(rest).log_()
            true_total += of_odds(*odds).sum().item()
            p = torch.sigmoid(odds)
            shares = rest.reciprocal()
            if hidden is not None:
                host.zero_where_(shares, hidden)
            # where hidden, both networks are made equal, and so nothing is left of either part
            moved = (p[0] - p[1]).mul_(alpha)
            shares[0].mul_((beta - moved).mul_(self.factor))
            pair.both.mul_(shares)
            total += pair.dot()
            if not math.isfinite(total + true_total):
                return None
            if slope is not None:
                torch.sub(pair.student, pair.teacher, alpha=beta * self.factor, out=slope)
                slope.scatter_(1, index, moved.mul_(self.factor))
        if not sums:
            return 0.0
        every = sums[0] if len(sums) == 1 else torch.cat(sums, 1)
        if not sound(every, self.classes):
            return None
        shift = (every[0] / every[1]).log_().sum().item()
        return temperature**2 * (alpha * true_total + beta * (total / temperature + shift))

    def of_any(self) -> float:
        """The same whatever the logits are."""
        total = 0.0
        for x, t, slope, index, hidden in blocks(*self.tensors, size=2 * host.BLOCK):
            labels = index if hidden is None else index.masked_fill(hidden, self.formula.ignore_index)
            labels = labels.squeeze(1)
            total += self.formula.value(x, t, labels).sum().item()
            if slope is not None:
                slope.copy_(self.formula.slope(x, t, labels, number(self.factor / self.formula.temperature, x)))
        return total
