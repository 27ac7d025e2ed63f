"""Cross-entropy of labels on the host: one softmax, of which the gradient is what is kept."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_cls._targets import index_mass
from losses_cls.cross_entropy._softmax import cross_entropy
from losses_core.utils import host
from losses_core.utils.deferred import Deferred
from losses_core.utils.elementwise import Formula, elementwise
from losses_core.utils.native import FEW
from losses_core.utils.weight_reduce import Unreduced, total_mass


class LabelCrossEntropy(Deferred):
    """f(-log p_y) of each place, with f the identity or a ``focus``; not computed yet.

    Args:
        x: logits (N,C,*S).
        labels: int64 (N,*S).
        mass_weight: (C,), the weight of the labels, in the denominator of ``mean`` too.
        value_weight: (C,), a further one, in the loss alone.
        focus: f, a `losses_core.utils.elementwise.Formula` of the cross-entropy.
    """

    def __init__(
        self,
        x: Tensor,
        labels: Tensor,
        *,
        ignore_index: int,
        mass_weight: Tensor | None,
        value_weight: Tensor | None = None,
        smoothing: float = 0.0,
        focus: Formula | None = None,
    ) -> None:
        self.x, self.labels, self.ignore_index = x, labels, ignore_index
        self.mass_weight, self.smoothing, self.focus = mass_weight, smoothing, focus
        self.weight = mass_weight
        if value_weight is not None:
            self.weight = value_weight if mass_weight is None else mass_weight * value_weight
        self._host = host.on_host(x, labels) and not (smoothing and self.weight is not None)
        self._sound = self._complete = False
        if self._host and labels.numel():
            low, high = labels.aminmax()
            lowest, highest = low.item(), high.item()
            self._complete = not lowest <= ignore_index <= highest
            self._sound = self._complete and lowest >= 0 and highest < x.shape[1]

    @property
    def summable(self) -> bool:
        return self._host

    def elements(self) -> Tensor:
        """The loss of each place."""
        if self._host:
            return self._on_host(None)
        if self.focus is None:
            return cross_entropy(
                self.x,
                self.labels,
                class_weight=self.weight,
                ignore_index=self.ignore_index,
                label_smoothing=self.smoothing,
            )
        weight = None if self.weight is None else index_mass(self.labels, self.ignore_index, self.weight)
        # an ignored place has a cross-entropy of 0, and so no loss
        return elementwise(
            self.focus, cross_entropy(self.x, self.labels, ignore_index=self.ignore_index), self.labels, weight
        )

    def _mask(self) -> Tensor | None:
        if self._complete and self.mass_weight is None:
            return None
        return index_mass(self.labels, self.ignore_index, self.mass_weight)

    def unreduced(self) -> Unreduced:
        return Unreduced(self.elements(), self._mask())

    def mass(self) -> float | Tensor:
        return total_mass(self.labels, self._mask())

    def total(self, scale: float | Tensor) -> Tensor:
        return self._on_host(scale)

    def _on_host(self, scale: float | Tensor | None) -> Tensor:
        if self._sound and self.focus is None and self.x.numel() <= FEW:
            # torch's own, which takes the fewest operations; its gradient is NaN where an ignored place holds NaN
            number = self.labels.numel()
            averaged = self.weight is None and isinstance(scale, float) and scale * number == 1
            reduction = "none" if scale is None else "mean" if averaged else "sum"
            value = F.cross_entropy(
                self.x, self.labels, self.weight, reduction=reduction, label_smoothing=self.smoothing
            )
            return value if scale is None or averaged else value * scale
        ignored = None if self._complete else (self.labels == self.ignore_index).unsqueeze(1)
        result, _ = _OfLabels.apply(
            self.x, self.labels.unsqueeze(1), ignored, self.weight, self.smoothing, self.focus, scale
        )
        return result  # type: ignore[no-any-return]


class _OfLabels(host.HostFunction):
    """The loss, and the gap p - onehot, which is its gradient up to a factor per place and all that is kept.

    The gap is a second output, so that a double backward finds its derivative in the graph.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        labels: Tensor,
        ignored: Tensor | None,
        weight: Tensor | None,
        smoothing: float,
        focus: Formula | None,
        scale: float | Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        if ignored is not None:
            labels = labels.masked_fill(ignored, 0)
        gap = torch.softmax(x, 1)
        p = gap.gather(1, labels)
        value = p.log().neg_()
        if p.numel() and not p.amin().item() > host.SOUND:  # so that NaN counts as unsound
            value = torch.where(p > host.SOUND, value, -F.log_softmax(x, 1).gather(1, labels))
        gap.scatter_(1, labels, p.sub_(1))
        share = None if weight is None else weight[labels]
        if focus is not None:
            evaluated = focus(value, labels, share)
            value, share = evaluated.value(), evaluated.slope()
        elif share is not None:
            value = value * share
        if smoothing:
            classes = x.shape[1]
            # -Σ log p = C lse - Σ x, and the logarithm of the sum of exponentials is x_y - log p_y
            lse = x.gather(1, labels).add_(value)
            value.mul_(1 - smoothing).add_(lse, alpha=smoothing)
            value.sub_(x.sum(1, keepdim=True), alpha=smoothing / classes)
            gap.sub_(smoothing / classes).scatter_add_(1, labels, value.new_full((), smoothing).expand(labels.shape))
        if ignored is not None:
            value.masked_fill_(ignored, 0)
            host.zero_where_(gap, ignored)
        ctx.smoothing, ctx.focus, ctx.scale = smoothing, focus, scale
        ctx.save_for_backward(gap, labels, ignored, weight, None if focus is None else share)
        ctx.set_materialize_grads(False)
        return value.squeeze(1) if scale is None else value.sum() * scale, gap

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, grad_gap: Tensor | None) -> tuple[Tensor | None, ...]:
        gap, labels, ignored, weight, share = ctx.saved_tensors
        total = None
        if grad is not None:
            grad = grad.unsqueeze(1) if ctx.scale is None else grad * ctx.scale
            if ctx.focus is None:
                share = None if weight is None else weight[labels]
            elif torch.is_grad_enabled():
                share = _recorded_share(gap, labels, weight, ctx.focus)
            if share is not None and ignored is not None:
                # a NaN stays at its place: it is no factor of a gap that is 0 there
                share = share.masked_fill(ignored, 0)
            total = gap * (grad if share is None else grad * share)
        if grad_gap is not None:
            p = _probabilities(gap, labels, ignored, ctx.smoothing)
            if ignored is not None:
                p = p.masked_fill(ignored, 0)
            of_gap = p * (grad_gap - (p * grad_gap).sum(1, keepdim=True))
            total = of_gap if total is None else total + of_gap
        return total, None, None, None, None, None, None


def _probabilities(gap: Tensor, labels: Tensor, ignored: Tensor | None, smoothing: float) -> Tensor:
    """Back from the gap."""
    one = gap.new_full((), 1 - smoothing).expand(labels.shape)
    return (gap + smoothing / gap.shape[1]).scatter_add(1, labels, one)


def _recorded_share(gap: Tensor, labels: Tensor, weight: Tensor | None, focus: Formula) -> Tensor:
    """The derivative of the focus at each place as a function of the gap."""
    p = (gap.gather(1, labels) + 1).clamp(min=torch.finfo(gap.dtype).tiny)
    return focus(-p.log(), labels, None if weight is None else weight[labels]).slope()
