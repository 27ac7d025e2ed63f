"""The sigmoid focal loss and its modulating factor (Lin et al., ICCV 2017, arXiv 1708.02002)."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core.errors import InputError
from losses_core.utils import checks
from losses_core.utils.autograd import elementwise
from losses_core.utils.precision import full_precision, match_dtype
from losses_core.utils.weight_reduce import reduce_loss


@dataclasses.dataclass(frozen=True)
class SigmoidFocal:
    """α_t q^γ · BCE with q = 1 - p_t, as a `losses_core.utils.autograd.Formula`.

    ``t`` is a target of the shape of ``x``, or (N,) class indices for ``x`` (N,C) with ``index=True``, where a label
    outside [0,C) is background: a row without a positive.
    """

    gamma: float
    ignore_index: float | None = None
    index: bool = False

    def hidden(self, t: Tensor) -> Tensor | None:
        if self.ignore_index is None:
            return None
        hidden = t == self.ignore_index
        return hidden.unsqueeze(1) if self.index else hidden

    def value(self, x: Tensor, t: Tensor, alpha: Tensor | None = None, class_weight: Tensor | None = None) -> Tensor:
        t = self._dense(x, t)
        p, n = torch.sigmoid(x), torch.sigmoid(-x)
        q = p * (1 - t) + n * t
        # no power of a number that may be 0 where the exponent's derivative would be infinite: see slope
        modulated = self._power(q) * (F.softplus(x) - x * t)
        return modulated if alpha is None and class_weight is None else modulated * _factor(t, alpha, class_weight)

    def slope(self, x: Tensor, t: Tensor, alpha: Tensor | None = None, class_weight: Tensor | None = None) -> Tensor:
        t = self._dense(x, t)
        p, n = torch.sigmoid(x), torch.sigmoid(-x)
        q = p * (1 - t) + n * t
        # d(q^γ)/dx = γ q^γ · (1-2t) p n / q: p n / q stays in [0,1], so no γ and no saturated logit makes it infinite
        ratio = p * n / q.clamp(min=torch.finfo(q.dtype).tiny)
        bce = F.softplus(x) - x * t
        slope = self._power(q) * (self.gamma * ratio * (1 - 2 * t) * bce + (p * (1 - t) - n * t))
        return slope if alpha is None and class_weight is None else slope * _factor(t, alpha, class_weight)

    def _power(self, q: Tensor) -> Tensor:
        return q.clamp(min=torch.finfo(q.dtype).tiny).pow(self.gamma)

    def _dense(self, x: Tensor, t: Tensor) -> Tensor:
        if self.index:
            return (t.unsqueeze(1) == torch.arange(x.shape[1], device=x.device)).to(x.dtype)
        return t.to(x.dtype)


def _factor(t: Tensor, alpha: Tensor | None, class_weight: Tensor | None) -> Tensor:
    factor = torch.ones_like(t) if alpha is None else alpha * t + (1 - alpha) * (1 - t)
    return factor if class_weight is None else factor * class_weight


@full_precision
def focal_weight(p: Tensor, gamma: float) -> Tensor:
    r"""Modulating factor :math:`(1-p)^\gamma` of the focal loss.

    Value and gradient are finite for every ``gamma`` ≥ 0 and ``p`` in [0,1]: for 0 < γ < 1 the base is clamped to the
    machine epsilon before the power.

    Args:
        p: probability of the true class, in [0,1], any shape.
        gamma: focusing parameter, ≥ 0; 0 gives ones.

    Raises:
        InputError: a negative ``gamma``.

    Example:
        >>> import torch
        >>> focal_weight(torch.tensor([0.0, 0.5, 1.0]), 2.0)
        tensor([1.0000, 0.2500, 0.0000])
    """
    if gamma < 0:
        raise InputError(f"gamma: expected a number >= 0; got {gamma}.")
    floor = torch.finfo(p.dtype).eps if 0 < gamma < 1 else 0.0
    return (1 - p).clamp(min=floor).pow(gamma)


@full_precision
def sigmoid_focal_loss(
    pred: Tensor, target: Tensor, alpha: float | None = 0.25, gamma: float = 2.0, *, reduction: str = "none"
) -> Tensor:
    r"""Sigmoid focal loss, elementwise.

    .. math:: -\alpha_t (1-p_t)^\gamma \log p_t

    Keeps only ``pred`` and ``target`` for its backward, and has a finite value and gradient for every γ ≥ 0 at
    saturated logits.

    Args:
        pred: logits, any shape.
        target: 0 or 1 (or a soft value between) of the shape of ``pred``; integer and bool targets are accepted.
        alpha: weight of the positives, 1 - alpha that of the negatives; None or negative: off.
        gamma: focusing parameter, ≥ 0.
        reduction: ``'none'``, ``'mean'`` or ``'sum'``.

    Returns:
        The shape of ``pred``, or 0-d when reduced.

    Raises:
        InputError: unequal shapes, a negative ``gamma``, an unknown reduction.

    Example:
        >>> import torch
        >>> sigmoid_focal_loss(torch.tensor([0.0, 2.0]), torch.tensor([1, 0]))
        tensor([0.0433, 1.2376])
    """
    checks.floating(pred)
    checks.same_shape(pred, target)
    if gamma < 0:
        raise InputError(f"gamma: expected a number >= 0; got {gamma}.")
    target = match_dtype(target, pred.dtype)
    factor = None if alpha is None or alpha < 0 else torch.full((), alpha, dtype=pred.dtype, device=pred.device)
    return reduce_loss(elementwise(SigmoidFocal(gamma), pred, target, factor), reduction)
