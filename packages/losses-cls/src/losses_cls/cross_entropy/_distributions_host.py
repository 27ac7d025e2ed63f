"""Cross-entropy of distributions on the host: one softmax, of which the gradient is what is kept."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from losses_cls.cross_entropy._softmax import soft_cross_entropy, soft_value
from losses_core.utils import host
from losses_core.utils.deferred import Deferred
from losses_core.utils.summed import handed_on
from losses_core.utils.weight_reduce import Unreduced

_MODERATE = 100.0
"""A logit up to here is used as it is; the rounding of a larger one would show in a small loss."""

_PART = 0.01
"""A difference that is a smaller part than this of its two terms has lost more than two digits."""


class DistributionCrossEntropy(Deferred):
    """`soft_cross_entropy`, not computed yet."""

    def __init__(self, x: Tensor, q: Tensor, class_weight: Tensor | None) -> None:
        self.x, self.q, self.class_weight = x, q, class_weight
        self._host = class_weight is None and host.on_host(x, q) and not q.requires_grad

    @property
    def summable(self) -> bool:
        return self._host

    def unreduced(self) -> Unreduced:
        if self._host:
            return Unreduced(_OfDistributions.apply(self.x, self.q, None)[0])
        return Unreduced(soft_cross_entropy(self.x, self.q, class_weight=self.class_weight))

    def normalizer(self) -> float:
        return self.x.numel() / self.x.shape[1] if self.x.shape[1] else 0.0

    def total(self, scale: float | Tensor) -> Tensor:
        factor = scale.item() if isinstance(scale, Tensor) else scale
        return _OfDistributions.apply(self.x, self.q, factor)[0]  # type: ignore[no-any-return]


class _OfDistributions(host.HostFunction):
    """The loss, and its gradient p Σq - q, times the scale, which is kept beside q.

    That slope is a second output, so that a double backward finds its derivative in the graph.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, q: Tensor, scale: float | None) -> tuple[Tensor, Tensor]:
        slope, to_normal = host.softmax(x)
        normalizer = q.sum(1)
        # -Σ q log p = lse Σ q - Σ q x, and any class gives the logarithm of the sum of exponentials
        p, first = slope.select(1, 0) * to_normal.squeeze(1), x.select(1, 0)
        lse = (first - p.log()).mul_(normalizer)
        found = lse - (q * x).sum(1) if scale is None else lse.sum() - host.dot(q, x)
        # not of large logits, whose rounding would show, nor of -inf, where 0 · log 0 is 0; NaN counts as unsound
        sound = not x.numel() or (
            p.amin().item() > host.SOUND
            and torch.linalg.vector_norm(first, math.inf).item() <= _MODERATE
            and (_exact(found, lse).all() if scale is None else _exact(found, lse.abs().sum())).item()
        )
        if not sound:
            value = soft_value(x, q, None)
            if scale is None:
                found = torch.where((p > host.SOUND) & (first.abs() <= _MODERATE) & _exact(found, lse), found, value)
            else:
                found = value.sum()
        result = found if scale is None else found * scale
        if ctx.needs_input_grad[0]:
            factor = 1.0 if scale is None else scale
            slope.mul_(to_normal.mul_(normalizer.mul_(factor).unsqueeze(1))).sub_(q, alpha=factor)
        ctx.scale = scale
        ctx.save_for_backward(slope, q)
        ctx.set_materialize_grads(False)
        return result, slope

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, grad_slope: Tensor | None) -> tuple[Tensor | None, None, None]:
        slope, q = ctx.saved_tensors
        total = None
        if grad is not None:
            total = slope * grad.unsqueeze(1) if ctx.scale is None else handed_on(slope, grad)
        if grad_slope is not None:
            scaled_q = q if ctx.scale is None else q * ctx.scale
            normalizer = scaled_q.sum(1, keepdim=True)
            p_mass = slope + scaled_q
            # p Σq (g - Σ p g), without a division where Σq or the scale is 0
            mean = (p_mass * grad_slope).sum(1, keepdim=True) / torch.where(normalizer == 0, 1, normalizer)
            of_slope = p_mass * (grad_slope - mean)
            total = of_slope if total is None else total + of_slope
        return total, None, None


def _exact(found: Tensor, term: Tensor) -> Tensor:
    """Whether differences have kept their digits, and are finite."""
    return (found >= _PART * term.abs()) & found.isfinite()
