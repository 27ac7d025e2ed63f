"""Functions with a finite value and gradient where the textbook formula has none."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def power(base: Tensor, exponent: float) -> Tensor:
    """``base ** exponent`` of numbers ≥ 0, with a finite derivative at 0 for every exponent ≥ 0.

    Small whole exponents are products, which a CPU computes twenty times as fast as powers.
    """
    if exponent == 0:
        return torch.ones_like(base)
    if exponent == 1:
        return base
    if exponent == 2:
        return base * base
    if exponent == 3:
        return base * base * base
    if exponent == 4:
        square = base * base
        return square * square
    return base.clamp(min=torch.finfo(base.dtype).tiny).pow(exponent)


def binary_cross_entropy(x: Tensor, t: Tensor | None, pos_weight: Tensor | float | None = None) -> Tensor:
    """-v t ln σ(x) - (1-t) ln σ(-x) of each element, v the ``pos_weight``; with ``t`` None, all targets are 0.

    Each term is a softplus, so a large logit that is right keeps its small loss: softplus(x) - x t would cancel.
    """
    if t is None:
        return F.softplus(x)
    positive = t if pos_weight is None else t * pos_weight
    return positive * F.softplus(-x) + (1 - t) * F.softplus(x)


def ratio(numerator: Tensor, denominator: Tensor, otherwise: float = 0.0) -> Tensor:
    """``numerator / denominator``, and ``otherwise`` without a gradient where the denominator is 0; NaN stays NaN."""
    empty = denominator == 0
    return torch.where(empty, otherwise, numerator / denominator.masked_fill(empty, 1))


def probability_cross_entropy(p: Tensor, t: Tensor, pos_weight: Tensor | float | None = None) -> Tensor:
    """-v t ln p - (1-t) ln(1-p) of probabilities, v the ``pos_weight``.

    Each logarithm is at least -100, as in torch, with a gradient of 0 there.
    """
    zero, one = p <= _EXP_MINUS_100, p >= 1
    log_p = p.masked_fill(zero, 1).log().masked_fill(zero, -100)
    log_n = torch.log1p(-p.masked_fill(one, 0)).masked_fill(one, -100)
    positive = t if pos_weight is None else t * pos_weight
    return -(positive * log_p + (1 - t) * log_n)


_EXP_MINUS_100 = 3.7200759760208361e-44


def logistic_loss(x: Tensor, positive: Tensor, total: Tensor | None = None) -> Tensor:
    """`binary_cross_entropy` for kernels: fewer passes over the elements, and no gradient.

    total · ln(1 + exp(-|x|)) + total · max(x, 0) - positive · x, where the last two terms cancel exactly for a logit
    that is right.

    Args:
        x: logits.
        positive: weight of the positive term, the target itself without a ``pos_weight``.
        total: weight of both terms together, ``1 - target + positive``; None: 1.
    """
    softplus, relu = x.abs().neg_().exp_().log1p_(), x.clamp(min=0)
    if total is not None:
        softplus.mul_(total)
        relu.mul_(total)
    return relu.addcmul_(x, positive, value=-1).add_(softplus)


def logistic_loss_of_targets(x: Tensor, t: Tensor) -> Tensor:
    """`logistic_loss` without a ``pos_weight``, by the fewest operators; on a CPU it takes a quarter longer.

    ln(e^((1-t) x) + e^(-t x)), where nothing cancels.
    """
    part = x * t
    return torch.logaddexp(x - part, part.neg_())


def fill_ignored(x: Tensor, t: Tensor, ignore_index: float | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Predictions and targets with 0 where ``t`` equals ``ignore_index``, and the mask of these elements, if any.

    A mask on the loss alone would not do: the gradient of an ignored NaN is NaN times 0.
    """
    if ignore_index is None:
        return x, t, None
    ignored = t == ignore_index
    return x.masked_fill(ignored, 0), t.masked_fill(ignored, 0), ignored


def scale_and_mask_(value: Tensor, grad: Tensor | None, factor: Tensor | float | None, ignored: Tensor | None) -> None:
    """Multiply value and gradient of a kernel by a factor, and set them to 0 where ignored, in place."""
    for part in (value, grad):
        if part is None:
            continue
        if factor is not None:
            part.mul_(factor)
        if ignored is not None:
            part.masked_fill_(ignored, 0)
