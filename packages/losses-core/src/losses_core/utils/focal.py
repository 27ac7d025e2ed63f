"""The sigmoid focal loss and its modulating factor (Lin et al., ICCV 2017, arXiv 1708.02002)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from losses_core.errors import InputError
from losses_core.utils import checks, temporaries
from losses_core.utils.elementwise import Evaluated, elementwise, power, set_at
from losses_core.utils.logistic import logistic
from losses_core.utils.precision import full_precision, match_dtype
from losses_core.utils.weight_reduce import reduce_loss


@dataclasses.dataclass(frozen=True)
class SigmoidFocal:
    """α_t q^γ · BCE with q = 1 - p_t, as a `losses_core.utils.elementwise.Formula`.

    ``t`` is a target of the shape of ``x``, or (N,) class indices for ``x`` (N,C) with ``index=True``, where a label
    outside [0,C) is background: a row without a positive.
    """

    alpha: float | None
    gamma: float
    ignore_index: float | None = None
    index: bool = False

    def __call__(
        self, x: Tensor, t: Tensor, alpha: Tensor | None = None, class_weight: Tensor | None = None
    ) -> Evaluated:
        factor: float | Tensor | None = self.alpha if alpha is None else alpha
        if not self.index:
            return self._weighted(self._at(x, t.to(x.dtype), factor), class_weight)
        classes = x.shape[1]
        if torch.compiler.is_compiling():
            # a compiler makes one loop of this
            same = t.unsqueeze(1) == torch.arange(classes, device=x.device)
            return self._weighted(self._at(x, same.to(x.dtype), factor), class_weight)
        # all are negatives but one per row
        column = t.clamp(0, classes - 1).unsqueeze(1)
        positive = (t.unsqueeze(1) == column).to(x.dtype)
        if isinstance(factor, Tensor) and factor.ndim:
            factors: tuple[float | Tensor | None, ...] = factor, factor.expand_as(x).gather(1, column)
        else:
            factors = factor, factor
        rest, label = self._at(x, None, factors[0]), self._at(x.gather(1, column), positive, factors[1])

        def patched(all_: Callable[[], Tensor], one: Callable[[], Tensor]) -> Callable[[], Tensor]:
            return lambda: set_at(all_(), column, one())

        return self._weighted(
            Evaluated(patched(rest.value, label.value), patched(rest.slope, label.slope)), class_weight
        )

    def _at(self, x: Tensor, t: Tensor | None, alpha: float | Tensor | None) -> Evaluated:
        """At targets of the shape of ``x``; None: all are 0."""
        p, bce = torch.sigmoid(x), logistic(x, t)
        gamma = self.gamma
        if t is None:
            balance: float | Tensor | None = None if alpha is None else 1 - alpha
            q, turn = p, None
        else:
            balance = None if alpha is None else _balance(t, alpha)
            turn = torch.rsub(t, 1, alpha=2)
            q = torch.addcmul(t, p, turn)

        def value() -> Tensor:
            loss = power(q, gamma) * bce
            return loss if balance is None else temporaries.mul(loss, balance)

        def slope() -> Tensor:
            if turn is None or t is None:
                # d(p^γ)/dx = γ p^γ (1-p)
                loss = temporaries.mul(temporaries.mul(torch.rsub(p, 1), bce), gamma)
                loss = temporaries.mul(temporaries.add(loss, p), power(p, gamma))
            else:
                # d(q^γ)/dx = γ q^(γ-1) (1-2t) p n
                loss = temporaries.mul(temporaries.mul(torch.addcmul(p, p, p, value=-1), turn), bce)
                if gamma >= 1:
                    loss = temporaries.addcmul(temporaries.mul(loss, gamma), p - t, q)
                    loss = loss if gamma == 1 else temporaries.mul(loss, power(q, gamma - 1))
                else:
                    # p n / q stays in [0,1], so no γ and no saturated logit makes it infinite
                    ratio = loss / q.clamp(min=torch.finfo(q.dtype).tiny)
                    loss = torch.add(p - t, ratio, alpha=gamma) * power(q, gamma)
            return loss if balance is None else temporaries.mul(loss, balance)

        return Evaluated(value, slope)

    @staticmethod
    def _weighted(evaluated: Evaluated, weight: Tensor | None) -> Evaluated:
        if weight is None:
            return evaluated
        return Evaluated(lambda: evaluated.value() * weight, lambda: evaluated.slope() * weight)


def _balance(t: Tensor, alpha: float | Tensor) -> Tensor:
    """α t + (1-α) (1-t)"""
    if isinstance(alpha, Tensor):
        return torch.addcmul(1 - alpha, t, 2 * alpha - 1)
    return torch.rsub(t, 1 - alpha, alpha=1 - 2 * alpha)


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
    return reduce_loss(elementwise(SigmoidFocal(switch(alpha), gamma), pred, target), reduction)


def switch(alpha: float | None) -> float | None:
    """None for a negative number, which turns the balance off as well."""
    return None if alpha is None or alpha < 0 else float(alpha)
