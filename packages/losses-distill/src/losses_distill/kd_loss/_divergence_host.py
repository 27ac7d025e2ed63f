"""The divergence of softened probabilities on the host: summed, with its gradient, block by block."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from losses_core.utils import host
from losses_core.utils.summed import handed_on, number, wanted
from losses_distill._blocks import blocks, vectors
from losses_distill.kd_loss._divergence import value_and_gap
from losses_distill.kd_loss._exponentials import Exponentials, sound
from losses_distill.kd_loss._softening import Softening


def summed_divergence(
    x: Tensor, t: Tensor, hidden: Tensor | None, axis: int, temperature: float, scale: float
) -> Tensor:
    """``scale`` · Σ T²·KL(softmax t/T ‖ softmax x/T) over the positions that are not hidden."""
    return _Summed.apply(x, t, hidden, Softening(axis, temperature), scale, wanted(x))  # type: ignore[no-any-return]


class _Summed(host.HostFunction):
    """Keeps the student's logits and their gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, t: Tensor, hidden: Tensor | None, softening: Softening, scale: float, slope_wanted: bool
    ) -> Tensor:
        slope = torch.empty(x.shape, dtype=x.dtype) if slope_wanted else None
        axis, temperature = softening.axis, softening.temperature
        student, teacher = vectors(x, axis), vectors(t, axis)
        written = None if slope is None else vectors(slope, axis)
        covered = None if hidden is None else vectors(hidden.unsqueeze(axis), axis)
        value = _of_moderate(student, teacher, written, covered, temperature, scale)
        if value is None:
            value = _of_any(student, teacher, written, covered, temperature, scale)
        ctx.softening, ctx.scale = softening, scale
        ctx.save_for_backward(x, slope, hidden)
        return number(value * scale, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, slope, hidden = ctx.saved_tensors
        softening: Softening = ctx.softening
        if torch.is_grad_enabled():
            # of the gradient T·scale·(p - q), p alone moves with x
            p = softening.probabilities(x) * (softening.temperature * ctx.scale)
            p = p if hidden is None else torch.where(hidden.unsqueeze(softening.axis), 0, p)
            gradient = (slope + (p - p.detach())) * grad
        else:
            gradient = handed_on(slope, grad)
        return gradient, None, None, None, None, None


def _of_moderate(
    x: Tensor, t: Tensor, slope: Tensor | None, hidden: Tensor | None, temperature: float, scale: float
) -> float | None:
    """The sum, without ``scale``; the slope is written, with it. None where logits are large, -inf or NaN."""
    pair, sums, total = None, [], 0.0
    for x_part, t_part, slope_part, covered in blocks(x, t, slope, hidden, size=host.BLOCK // 2):
        if pair is None or pair.gap.shape != x_part.shape:
            pair = Exponentials(x_part)
        pair.fill(x_part, t_part, temperature, covered)
        found = pair.both.sum(2, keepdim=True)
        sums.append(found.view(2, -1))
        shares = found.reciprocal()
        if covered is not None:
            host.zero_where_(shares, covered)
        shares[0].mul_(temperature * scale)
        pair.both.mul_(shares)
        total += pair.dot()
        if not math.isfinite(total):
            return None
        if slope_part is not None:
            torch.sub(pair.student, pair.teacher, alpha=temperature * scale, out=slope_part)
    if not sums:
        return 0.0
    every = sums[0] if len(sums) == 1 else torch.cat(sums, 1)
    if not sound(every, x.shape[1]):
        return None
    # a hidden place has equal sums, and adds 0
    shift = (every[0] / every[1]).log_().sum().item()
    return temperature * total + temperature**2 * shift


def _of_any(
    x: Tensor, t: Tensor, slope: Tensor | None, hidden: Tensor | None, temperature: float, scale: float
) -> float:
    """The same whatever the logits are."""
    softening, total = Softening(1, temperature), 0.0
    for x_part, t_part, slope_part, covered in blocks(x, t, slope, hidden, size=host.BLOCK):
        value, gap = value_and_gap(t_part, x_part, None if covered is None else covered.squeeze(1), softening)
        total += value.sum().item()
        if slope_part is not None:
            torch.mul(gap, temperature * scale, out=slope_part)
    return total
