"""Binary cross-entropy per element, of logits or of probabilities."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_cls._targets import classes_of, like_pred, per_class
from losses_cls.cross_entropy._binary_host import summed_binary
from losses_core import BaseLoss, LossOptions, examples
from losses_core.utils import checks, temporaries
from losses_core.utils.deferred import Deferred
from losses_core.utils.elementwise import Elements, Evaluated
from losses_core.utils.logistic import logistic
from losses_core.utils.native import FEW, Native
from losses_core.utils.precision import full_precision
from losses_core.utils.summed import Summed


@dataclasses.dataclass(frozen=True)
class _Logits:
    """Binary cross-entropy of logits: softplus(x) - x t; with a pos_weight w, (1-t) x + (1 + (w-1) t) softplus(-x)."""

    ignore_index: int | None
    index: ClassVar[bool] = False

    def __call__(
        self, x: Tensor, t: Tensor, pos_weight: Tensor | None = None, class_weight: Tensor | None = None
    ) -> Evaluated:
        def value() -> Tensor:
            if pos_weight is None:
                return logistic(x, t)
            return torch.addcmul((1 - t) * x, 1 + (pos_weight - 1) * t, F.softplus(-x))

        def slope() -> Tensor:
            if pos_weight is None:
                return temporaries.sub(torch.sigmoid(x), t)
            return torch.addcmul(1 - t, 1 + (pos_weight - 1) * t, torch.sigmoid(-x), value=-1)

        return _weighted(value, slope, class_weight)


def _weighted(value: Callable[[], Tensor], slope: Callable[[], Tensor], weight: Tensor | None) -> Evaluated:
    if weight is None:
        return Evaluated(value, slope)
    return Evaluated(lambda: value() * weight, lambda: slope() * weight)


@dataclasses.dataclass(frozen=True)
class _Probabilities:
    """Binary cross-entropy of probabilities, each log bounded below by -100 and flat there."""

    ignore_index: int | None
    index: ClassVar[bool] = False

    def __call__(
        self, x: Tensor, t: Tensor, pos_weight: Tensor | None = None, class_weight: Tensor | None = None
    ) -> Evaluated:
        positive = t if pos_weight is None else t * pos_weight
        log_p, log_n = x.log(), torch.log1p(-x)

        def value() -> Tensor:
            return -(positive * log_p.clamp(min=-100) + (1 - t) * log_n.clamp(min=-100))

        def slope() -> Tensor:
            tiny = torch.finfo(x.dtype).tiny
            rising = torch.where(log_p > -100, positive / x.clamp(min=tiny), 0)
            falling = torch.where(log_n > -100, (1 - t) / (1 - x).clamp(min=tiny), 0)
            return falling - rising

        return _weighted(value, slope, class_weight)


def _deferred(
    pred: Tensor,
    target: Tensor,
    pos_weight: Tensor | None,
    class_weight: Tensor | None,
    with_logits: bool,
    ignore_index: int | None,
) -> Deferred:
    target = like_pred(pred, target)
    pos_weight, class_weight = per_class(pos_weight, pred), per_class(class_weight, pred)
    formula = _Logits(ignore_index) if with_logits else _Probabilities(ignore_index)
    elements = Elements(formula, pred, target, pos_weight, class_weight)
    if not (with_logits and class_weight is None and elements.plain):
        return elements
    if pred.numel() <= FEW:
        return Native(partial(F.binary_cross_entropy_with_logits, pos_weight=pos_weight), pred, target, averages=True)
    if pos_weight is not None:
        return elements
    return Summed(pred, elements.elements, partial(summed_binary, pred, target), pred.numel())


@full_precision
def binary_cross_entropy(
    pred: Tensor,
    target: Tensor,
    *,
    pos_weight: Tensor | None = None,
    class_weight: Tensor | None = None,
    with_logits: bool = True,
    ignore_index: int | None = -100,
) -> Tensor:
    """Binary cross-entropy of each element, unreduced: see `BinaryCrossEntropyLoss`.

    Args:
        pred: logits, or probabilities with ``with_logits=False``; any shape.
        target: of the shape of ``pred``, or (N,) for ``pred`` (N,1).
        pos_weight: 0-d, or (C,) along axis 1: weight of the positive term.
        class_weight: 0-d, or (C,) along axis 1: weight of both terms.
        with_logits: what ``pred`` holds.
        ignore_index: elements equal to it have loss and gradient 0.

    Returns:
        The shape of ``pred``.
    """
    return _deferred(pred, target, pos_weight, class_weight, with_logits, ignore_index).unreduced().value


class BinaryCrossEntropyLoss(BaseLoss):
    r"""Binary cross-entropy of each element, for binary and multi-label targets.

    .. math::
        l = -w_c \left[ v_c\, y \log \sigma(x) + (1-y) \log(1-\sigma(x)) \right]

    with :math:`w` the ``class_weight`` and :math:`v` the ``pos_weight``.

    Use when: each class is a yes/no question of its own (tags, binary masks, objectness).

    Args:
        pos_weight: weight of the positive term, a number or C of them along axis 1. Default: none.
        with_logits: ``pred`` holds logits (True) or probabilities. Default: True.
        class_weight: list or tensor of C weights ≥ 0 along axis 1, on both terms. Default: none.
        ignore_index: elements of the target equal to it cost nothing and get no gradient. Default: -100.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: any shape; with a list of weights (N,C,*S).
        - target: of the shape of pred, in [0,1] (float, int or bool); or (N,) for pred (N,1).
        - weight: of the shape of pred or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` (Σ l / number of elements not ignored) and ``sum``, the shape of pred for ``none``.

    Raises:
        InputError: a shape that does not fit; class indices, with a hint.

    Example:
        >>> import torch
        >>> loss = BinaryCrossEntropyLoss(pos_weight=2.0)
        >>> loss(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.0]))
        tensor(1.0397)

    References:
        Good, Rational Decisions, Journal of the Royal Statistical Society B 14, 1952 (the logarithmic score).

    Notes:
        Equals ``torch.nn.functional.binary_cross_entropy_with_logits``. With probabilities each log is bounded below by
        -100 as in torch, and the gradient is 0 where it is bounded (torch's reaches 1e12 there); works under autocast.
    """

    example = examples.BINARY.probabilities_if("with_logits", False)

    def __init__(
        self,
        pos_weight: float | Sequence[float] | Tensor | None = None,
        with_logits: bool = True,
        class_weight: Sequence[float] | Tensor | None = None,
        ignore_index: int = -100,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self._set_vector("pos_weight", pos_weight)
        self.with_logits = checks.flag(self, "with_logits", with_logits)
        self._set_vector("class_weight", class_weight)
        self.ignore_index = checks.number(self, "ignore_index", ignore_index, integer=True)

    def _forward(self, pred: Tensor, target: Tensor, *, ignore_index: int) -> Deferred:
        classes = classes_of(pred)
        pos_weight = self._vector("pos_weight", pred, classes)
        class_weight = self._vector("class_weight", pred, classes)
        return _deferred(pred, target, pos_weight, class_weight, self.with_logits, ignore_index)
