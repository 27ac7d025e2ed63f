"""Cross-entropy: softmax over class indices or probabilities, and binary per element."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_cls._targets import classes_of, index_mass, is_index, like_pred, per_class
from losses_core import BaseLoss, LossOptions, Unreduced
from losses_core.utils import checks
from losses_core.utils.autograd import Function, elementwise, hide_gradient
from losses_core.utils.precision import full_precision


@full_precision
def cross_entropy(
    pred: Tensor,
    target: Tensor,
    *,
    class_weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of softmax probabilities, unreduced: see `CrossEntropyLoss`.

    Args:
        pred: logits (N,C,*S).
        target: class indices (N,*S), or probabilities (N,C,*S).
        class_weight: (C,).
        ignore_index: label whose loss and gradient are 0 (index targets).
        label_smoothing: in [0, 1].

    Returns:
        (N,*S)
    """
    if not is_index(pred, target):
        target = target.to(pred.dtype)
        if label_smoothing:
            target = target * (1 - label_smoothing) + label_smoothing / pred.shape[1]
        return soft_cross_entropy(pred, target, class_weight=class_weight)
    target = checks.index("target", target)
    # torch gives an ignored NaN logit a NaN gradient (0 · NaN in the backward of log_softmax)
    pred = hide_gradient(pred, (target == ignore_index).unsqueeze(1))
    return F.cross_entropy(
        pred, target, class_weight, ignore_index=ignore_index, reduction="none", label_smoothing=label_smoothing
    )


@full_precision
def soft_cross_entropy(pred: Tensor, target: Tensor, *, class_weight: Tensor | None = None) -> Tensor:
    """Cross-entropy against probabilities, unreduced: see `SoftCrossEntropyLoss`.

    Args:
        pred: logits (N,C,*S).
        target: probabilities (N,C,*S).
        class_weight: (C,).

    Returns:
        (N,*S)
    """
    checks.same_shape(pred, target)
    target = target.to(pred.dtype)
    weight = per_class(class_weight, pred)
    if target.requires_grad:
        return _soft_value(pred, target, weight)
    return _SoftCrossEntropy.apply(pred, target, weight)  # type: ignore[no-any-return]


def _soft_value(x: Tensor, q: Tensor, weight: Tensor | None) -> Tensor:
    q = q if weight is None else q * weight
    # 0 · log 0 is 0: a class masked out by a logit of -inf that has no probability costs nothing
    return -(q * F.log_softmax(x, 1)).masked_fill(q == 0, 0).sum(1)


class _SoftCrossEntropy(Function):
    """Keeps the logits and the target; composed from torch operations it would keep the logarithms and a mask too."""

    @staticmethod
    def forward(x: Tensor, q: Tensor, weight: Tensor | None) -> Tensor:
        return _soft_value(x, q, weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        x, q, weight = ctx.saved_tensors
        q = q if weight is None else q * weight
        return (F.softmax(x, 1) * q.sum(1, keepdim=True) - q) * grad.unsqueeze(1), None, None


@dataclasses.dataclass(frozen=True)
class _Logits:
    """Binary cross-entropy of logits: (1-t) x + (1 + (w-1) t) softplus(-x), with w the pos_weight."""

    ignore_index: int | None

    def hidden(self, t: Tensor) -> Tensor | None:
        return None if self.ignore_index is None else t == self.ignore_index

    def value(
        self, x: Tensor, t: Tensor, pos_weight: Tensor | None = None, class_weight: Tensor | None = None
    ) -> Tensor:
        value = (1 - t) * x + _positive(t, pos_weight) * F.softplus(-x)
        return value if class_weight is None else value * class_weight

    def slope(
        self, x: Tensor, t: Tensor, pos_weight: Tensor | None = None, class_weight: Tensor | None = None
    ) -> Tensor:
        slope = (1 - t) - _positive(t, pos_weight) * torch.sigmoid(-x)
        return slope if class_weight is None else slope * class_weight


def _positive(t: Tensor, pos_weight: Tensor | None) -> Tensor | float:
    return 1.0 if pos_weight is None else 1 + (pos_weight - 1) * t


@dataclasses.dataclass(frozen=True)
class _Probabilities(_Logits):
    """Binary cross-entropy of probabilities, each log bounded below by -100 and flat there."""

    def value(
        self, x: Tensor, t: Tensor, pos_weight: Tensor | None = None, class_weight: Tensor | None = None
    ) -> Tensor:
        positive = t if pos_weight is None else t * pos_weight
        value = -(positive * x.log().clamp(min=-100) + (1 - t) * torch.log1p(-x).clamp(min=-100))
        return value if class_weight is None else value * class_weight

    def slope(
        self, x: Tensor, t: Tensor, pos_weight: Tensor | None = None, class_weight: Tensor | None = None
    ) -> Tensor:
        positive = t if pos_weight is None else t * pos_weight
        tiny = torch.finfo(x.dtype).tiny
        rising = torch.where(x.log() > -100, positive / x.clamp(min=tiny), 0)
        falling = torch.where(torch.log1p(-x) > -100, (1 - t) / (1 - x).clamp(min=tiny), 0)
        slope = falling - rising
        return slope if class_weight is None else slope * class_weight


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
    target = like_pred(pred, target)
    formula = _Logits(ignore_index) if with_logits else _Probabilities(ignore_index)
    return elementwise(formula, pred, target, per_class(pos_weight, pred), per_class(class_weight, pred))


class CrossEntropyLoss(BaseLoss):
    r"""Softmax cross-entropy over class indices or class probabilities.

    .. math::
        l = -w_y \log p_y, \qquad p = \operatorname{softmax}(x), \qquad
        \text{mean} = \frac{\sum_i l_i}{\sum_i w_{y_i}} \text{ over labels that are not ignored}

    With label smoothing :math:`s` the target is :math:`(1-s)\,\mathrm{onehot}(y) + s/C`. For probabilities :math:`q`,
    :math:`l = -\sum_c w_c q_c \log p_c` and the mean divides by the number of them.

    Use when: single-label classification and semantic segmentation; with ``label_smoothing`` against over-confidence,
    with ``class_weight`` against imbalance.

    Args:
        class_weight: list or tensor of C weights ≥ 0. Default: none.
        ignore_index: label that costs nothing and gets no gradient. Default: -100. May also be given per call.
        label_smoothing: in [0, 1]. Default: 0.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,C,*S), any number of further dims.
        - target: (N,*S) integer, values in [0,C) or ``ignore_index``; or probabilities (N,C,*S).
        - weight: (N,*S) or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` and ``sum``, (N,*S) for ``none``.

    Raises:
        InputError: a shape or a dtype that does not fit.
        ConfigError: an option outside its range.
        IndexError: on the CPU, a label outside [0,C) that is not ``ignore_index``.

    Example:
        >>> import torch
        >>> loss = CrossEntropyLoss(ignore_index=255)
        >>> pred = torch.tensor([[2.0, 0.0], [0.0, 0.0]], requires_grad=True)
        >>> loss(pred, torch.tensor([0, 255]))
        tensor(0.1269, grad_fn=<DivBackward0>)

    References:
        Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016, arXiv 1512.00567
        (label smoothing).

    Notes:
        Value and gradient equal ``torch.nn.CrossEntropyLoss``, the class-weighted mean included; ``avg_factor=N`` gives
        the plain mean. They differ where every label is ignored (here 0, there NaN) and where an ignored place holds NaN
        or inf (here its gradient is exactly 0, there NaN).
    """

    class_axis = 1

    def __init__(
        self,
        class_weight: Sequence[float] | Tensor | None = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self._set_vector("class_weight", class_weight)
        self.ignore_index = checks.number(self, "ignore_index", ignore_index, integer=True)
        self.label_smoothing = checks.number(self, "label_smoothing", label_smoothing, low=0, high=1)

    def _forward(self, pred: Tensor, target: Tensor, *, ignore_index: int) -> Unreduced:
        weight = self._vector("class_weight", pred, classes_of(pred))
        value = cross_entropy(
            pred, target, class_weight=weight, ignore_index=ignore_index, label_smoothing=self.label_smoothing
        )
        return Unreduced(value, index_mass(target, ignore_index, weight) if is_index(pred, target) else None)


class SoftCrossEntropyLoss(BaseLoss):
    r"""Cross-entropy against a distribution over the classes.

    .. math:: l = -\sum_c w_c\, q_c \log p_c, \qquad p = \operatorname{softmax}(x)

    Use when: targets are distributions: MixUp, CutMix, label distributions, soft labels of annotators.

    Args:
        class_weight: list or tensor of C weights ≥ 0. Default: none.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,C,*S).
        - target: probabilities (N,C,*S); they are used as given, not normalised.
        - weight: (N,*S) or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` (Σ l / number of (N,*S) places) and ``sum``, (N,*S) for ``none``.

    Raises:
        InputError: a shape that does not fit. TypeError: ``ignore_index``, which has no meaning here.

    Example:
        >>> import torch
        >>> loss = SoftCrossEntropyLoss()
        >>> loss(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.5, 0.5]]))
        tensor(1.1269)

    References:
        Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018, arXiv 1710.09412.

    Notes:
        Equals ``torch.nn.CrossEntropyLoss`` with probability targets. A class with probability 0 whose logit is -inf
        contributes 0 here and NaN there.
    """

    class_axis = 1

    def __init__(
        self, class_weight: Sequence[float] | Tensor | None = None, **options: Unpack[LossOptions]
    ) -> None:
        super().__init__(**options)
        self._set_vector("class_weight", class_weight)

    def _forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return soft_cross_entropy(pred, target, class_weight=self._vector("class_weight", pred, classes_of(pred)))


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

    def _forward(self, pred: Tensor, target: Tensor, *, ignore_index: int) -> Unreduced:
        target = like_pred(pred, target)
        value = binary_cross_entropy(
            pred,
            target,
            pos_weight=self._vector("pos_weight", pred, classes_of(pred)),
            class_weight=self._vector("class_weight", pred, classes_of(pred)),
            with_logits=self.with_logits,
            ignore_index=ignore_index,
        )
        return Unreduced(value, target != ignore_index)
