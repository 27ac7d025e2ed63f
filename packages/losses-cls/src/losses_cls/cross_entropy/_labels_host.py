"""Cross-entropy of labels on the host: one softmax, of which the gradient is what is kept."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_cls._targets import index_normalizer
from losses_cls.cross_entropy._softmax import cross_entropy
from losses_core.utils import host
from losses_core.utils.deferred import Deferred
from losses_core.utils.elementwise import Formula, elementwise
from losses_core.utils.native import FEW
from losses_core.utils.summed import handed_on
from losses_core.utils.weight_reduce import Unreduced, total_normalizer


class LabelCrossEntropy(Deferred):
    """f(-log p_y) of each place, with f the identity or a ``focus``; not computed yet.

    Args:
        x: logits (N,C,*S).
        labels: int64 (N,*S).
        normalizer_weight: (C,), the weight of the labels, in the denominator of ``mean`` too.
        value_weight: (C,), a further one, in the loss alone.
        focus: f, a `losses_core.utils.elementwise.Formula` of the cross-entropy.
    """

    def __init__(
        self,
        x: Tensor,
        labels: Tensor,
        *,
        ignore_index: int,
        normalizer_weight: Tensor | None,
        value_weight: Tensor | None = None,
        smoothing: float = 0.0,
        focus: Formula | None = None,
    ) -> None:
        self.x, self.labels, self.ignore_index = x, labels, ignore_index
        self.normalizer_weight, self.smoothing, self.focus = normalizer_weight, smoothing, focus
        self.weight = normalizer_weight
        if value_weight is not None:
            self.weight = value_weight if normalizer_weight is None else normalizer_weight * value_weight
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
        weight = None if self.weight is None else index_normalizer(self.labels, self.ignore_index, self.weight)
        # an ignored place has a cross-entropy of 0, and so no loss
        return elementwise(
            self.focus, cross_entropy(self.x, self.labels, ignore_index=self.ignore_index), self.labels, weight
        )

    def _mask(self) -> Tensor | None:
        if self._complete and self.normalizer_weight is None:
            return None
        return index_normalizer(self.labels, self.ignore_index, self.normalizer_weight)

    def unreduced(self) -> Unreduced:
        return Unreduced(self.elements(), self._mask())

    def normalizer(self) -> float | Tensor:
        return total_normalizer(self.labels, self._mask())

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
    """The loss, and its gradient but for a focus, p - onehot times a factor per place, which is all that is kept.

    That slope is a second output, so that a double backward finds its derivative in the graph.
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
        slope, to_normal = host.softmax(x)
        p = slope.gather(1, labels).mul_(to_normal)
        value = p.log().neg_()
        if p.numel() and not p.amin().item() > host.SOUND:  # so that NaN counts as unsound
            unsound = ~(p > host.SOUND).squeeze(1)
            rows = F.log_softmax(x.movedim(1, -1)[unsound], 1)
            value.movedim(1, -1)[unsound] = -rows.gather(1, labels.movedim(1, -1)[unsound])
        share = None if weight is None else weight[labels]
        if focus is not None:
            evaluated = focus(value, labels, share)
            value, share = evaluated.value(), evaluated.slope()
        elif share is not None:
            value = value * share
        each = smoothing / x.shape[1] if smoothing else 0.0
        if smoothing:
            # -Σ log p = C lse - Σ x, and the logarithm of the sum of exponentials is x_y - log p_y
            lse = x.gather(1, labels).add_(value)
            value.mul_(1 - smoothing).add_(lse, alpha=smoothing)
            value.sub_(x.sum(1, keepdim=True), alpha=each)
        if ctx.needs_input_grad[0]:
            factor = _factor(labels, weight, scale) if focus is None else None
            _write_slope(slope, labels, p.sub_(1 - smoothing), to_normal, factor, each)
        if ignored is not None:
            value.masked_fill_(ignored, 0)
            host.zero_where_(slope, ignored)
        ctx.smoothing, ctx.focus, ctx.scale = smoothing, focus, scale
        ctx.save_for_backward(slope, labels, ignored, weight, None if focus is None else share)
        ctx.set_materialize_grads(False)
        return value.squeeze(1) if scale is None else value.sum() * scale, slope

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, grad_slope: Tensor | None) -> tuple[Tensor | None, ...]:
        slope, labels, ignored, weight, share = ctx.saved_tensors
        focus, scale = ctx.focus, ctx.scale
        total = None
        if grad is not None and focus is None:
            total = slope * grad.unsqueeze(1) if scale is None else handed_on(slope, grad)
        elif grad is not None:
            if torch.is_grad_enabled():
                share = _recorded_share(slope, labels, weight, focus)
            if ignored is not None:
                # a NaN stays at its place: it is no factor of a slope that is 0 there
                share = share.masked_fill(ignored, 0)
            total = slope * share * grad.unsqueeze(1) if scale is None else slope * (grad * scale * share)
        if grad_slope is not None:
            factor = _factor(labels, weight, scale) if focus is None else None
            scaled_p = _scaled_probabilities(slope, labels, ignored, ctx.smoothing, factor)
            mean = (scaled_p * grad_slope).sum(1, keepdim=True)
            if factor is not None:
                # Σ p g, without a division where the factor is 0
                factor = torch.as_tensor(factor, dtype=slope.dtype)
                mean = mean / torch.where(factor == 0, 1, factor)
            of_slope = scaled_p * (grad_slope - mean)
            total = of_slope if total is None else total + of_slope
        return total, None, None, None, None, None, None


def _write_slope(
    p: Tensor, labels: Tensor, at_label: Tensor, to_normal: Tensor, factor: float | Tensor | None, each: float
) -> None:
    """``p``, with ``to_normal``, becomes p - onehot, with ``factor``; smoothing asks for ``each`` of every class."""
    p.mul_(to_normal if factor is None else to_normal.mul_(factor))
    if each:
        p.sub_(each if factor is None else each * factor)
        at_label.sub_(each)
    p.scatter_(1, labels, at_label if factor is None else at_label.mul_(factor))


def _factor(labels: Tensor, weight: Tensor | None, scale: float | Tensor | None) -> float | Tensor | None:
    """That of the gradient of each place; None: 1."""
    if weight is None:
        return scale
    return weight[labels] if scale is None else weight[labels] * scale


def _scaled_probabilities(
    slope: Tensor, labels: Tensor, ignored: Tensor | None, smoothing: float, factor: float | Tensor | None
) -> Tensor:
    """Back from the slope, with its factor; 0 at ignored places."""
    one = slope.new_ones(labels.shape) if factor is None else slope.new_ones(labels.shape) * factor
    scaled = (slope + one * (smoothing / slope.shape[1])).scatter_add(1, labels, one * (1 - smoothing))
    return scaled if ignored is None else scaled.masked_fill(ignored, 0)


def _recorded_share(gap: Tensor, labels: Tensor, weight: Tensor | None, focus: Formula) -> Tensor:
    """The derivative of the focus at each place as a function of the gap."""
    p = (gap.gather(1, labels) + 1).clamp(min=torch.finfo(gap.dtype).tiny)
    return focus(-p.log(), labels, None if weight is None else weight[labels]).slope()
