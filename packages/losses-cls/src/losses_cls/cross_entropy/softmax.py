"""Softmax cross-entropy against class indices or distributions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_cls._targets import class_normalizer, ignored_label, prepare_classes
from losses_core import BaseLoss, LossOptions, Unreduced, examples
from losses_core.kernels import definition, delegate
from losses_core.utils import checks
from losses_core.utils.autograd import zero_grad_where
from losses_core.utils.focal import along_channels


def _mean(
    pred: Tensor, target: Tensor, *, class_weight: Tensor | None, ignore_index: int | None, label_smoothing: float
) -> Tensor | None:
    """The mean by torch's own operator, with masks for an ignored NaN and for a batch that is ignored as a whole."""
    if class_weight is not None or label_smoothing or target.ndim == pred.ndim:
        return None
    if ignore_index is None:
        return F.cross_entropy(pred, target)
    ignored = target == ignore_index
    value = F.cross_entropy(zero_grad_where(pred, ignored.unsqueeze(1)), target, ignore_index=ignore_index)
    return value.masked_fill(ignored.all(), 0)


@definition(layout="classes", prepare=prepare_classes, normalizer=class_normalizer, mean=_mean)
def cross_entropy(
    pred: Tensor,
    target: Tensor,
    *,
    class_weight: Tensor | None = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
) -> Unreduced:
    """Softmax cross-entropy, unreduced: see `CrossEntropyLoss`.

    Args:
        pred: logits (N,C,*S).
        target: class indices (N,*S), or probabilities (N,C,*S).
        class_weight: (C,).
        ignore_index: label that is ignored; None: none is. For class indices only.
        label_smoothing: in [0, 1].

    Returns:
        ``Unreduced``: a value (N,*S), and as normalizer the class weight of each label, 0 where ignored.
    """
    return negative_expectation(pred, target, class_weight, ignore_index, label_smoothing)  # type: ignore[return-value]


def negative_expectation(
    pred: Tensor,
    target: Tensor,
    class_weight: Tensor | None,
    ignore_index: int | None,
    label_smoothing: float,
    score: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """-Σ w q s over axis 1, q the target distribution: a weighted and smoothed label, or probabilities.

    Args:
        pred: logits (N,C,*S).
        target: class indices (N,*S), or probabilities (N,C,*S).
        class_weight: (C,).
        ignore_index: label that is ignored; None: none is.
        label_smoothing: in [0, 1].
        score: s as a function of log p, -inf at -inf; None: log p itself, which makes the result the cross-entropy.
    """
    if target.ndim == pred.ndim:
        # 0 for a class of probability 0 with a logit of -inf, where the product is NaN
        q = weighted_target(target.to(pred.dtype), class_weight, label_smoothing)
        s = _scores(pred, score)
        return -(q * s.masked_fill((q == 0) & (s == -torch.inf), 0)).sum(1)
    ignored = None if ignore_index is None else target == ignore_index
    if ignored is not None:
        pred, target = pred.masked_fill(ignored.unsqueeze(1), 0), target.masked_fill(ignored, 0)
    s = _scores(pred, score)
    value = -s.gather(1, target.unsqueeze(1)).squeeze(1)
    if class_weight is not None:
        value = value * class_weight[target]
    if label_smoothing:
        weighted = s if class_weight is None else s * along_channels(class_weight, s)
        value = (1 - label_smoothing) * value - label_smoothing / pred.shape[1] * weighted.sum(1)
    return value if ignored is None else value.masked_fill(ignored, 0)


def _scores(pred: Tensor, score: Callable[[Tensor], Tensor] | None) -> Tensor:
    log_p = F.log_softmax(pred, 1)
    return log_p if score is None else score(log_p)


def weighted_target(q: Tensor, class_weight: Tensor | None, label_smoothing: float) -> Tensor:
    """Probabilities with label smoothing, times the class weights."""
    if label_smoothing:
        q = q * (1 - label_smoothing) + label_smoothing / q.shape[1]
    return q if class_weight is None else q * along_channels(class_weight, q)


@definition(delegates=True)
def soft_cross_entropy(pred: Tensor, target: Tensor, *, class_weight: Tensor | None = None) -> Unreduced:
    """Softmax cross-entropy against probabilities, unreduced: see `SoftCrossEntropyLoss`.

    Args:
        pred: logits (N,C,*S).
        target: probabilities (N,C,*S).
        class_weight: (C,).

    Returns:
        ``Unreduced``: a value (N,*S).
    """
    checks.floating(pred)
    checks.same_shape(pred, checks.tensor("target", target))
    return delegate(cross_entropy, pred, target, class_weight=class_weight, ignore_index=None)


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
        ignore_index: label that is ignored: its loss and gradient are 0, and it is not counted; None: no label is.
            Default: -100. May also be given per call. For class indices only.
        label_smoothing: in [0, 1]. Default: 0.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,C,*S), any number of further dims.
        - target: (N,*S) integer, values in [0,C) or ``ignore_index``; or probabilities (N,C,*S).
        - weight: (N,*S) or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` and ``sum``, (N,*S) for ``none``.

    Raises:
        InputError: a shape or a dtype that does not fit; an ``ignore_index`` other than -100 with probabilities; on the
            CPU, a label outside [0,C) that is not ``ignore_index``, or a probability outside [0,1].
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = CrossEntropyLoss(ignore_index=255)
        >>> pred = torch.tensor([[2.0, 0.0], [0.0, 0.0]], requires_grad=True)
        >>> loss(pred, torch.tensor([0, 255]))
        tensor(0.1269, grad_fn=<...>)

    References:
        Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016, arXiv 1512.00567
        (label smoothing).

    Notes:
        Value and gradient equal ``torch.nn.CrossEntropyLoss``, the class-weighted mean included; ``avg_factor=N`` gives
        the plain mean. They differ where every label is ignored (0 in this library, NaN in torch) and where the logits
        of an ignored label are NaN or inf (a gradient of exactly 0 in this library, NaN in torch).
    """

    function = cross_entropy
    example = examples.LABELS

    def __init__(
        self,
        class_weight: Sequence[float] | Tensor | None = None,
        ignore_index: int | None = -100,
        label_smoothing: float = 0.0,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self._set_vector("class_weight", class_weight)
        self.ignore_index = ignored_label(self, ignore_index)
        self.label_smoothing = checks.number(self, "label_smoothing", label_smoothing, low=0, high=1)


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
        0-d for ``mean`` (Σ l / number of rows (N,*S)) and ``sum``, (N,*S) for ``none``.

    Raises:
        InputError: a shape that does not fit; on the CPU, a probability outside [0,1].
        TypeError: ``ignore_index``, which has no meaning for distributions.

    Example:
        >>> import torch
        >>> loss = SoftCrossEntropyLoss()
        >>> loss(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.5, 0.5]]))
        tensor(1.1269)

    References:
        Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018, arXiv 1710.09412.

    Notes:
        Equals ``torch.nn.CrossEntropyLoss`` with probability targets. A class with probability 0 whose logit is -inf
        contributes 0; in torch it makes the loss NaN.
    """

    function = soft_cross_entropy
    example = examples.DISTRIBUTIONS

    def __init__(self, class_weight: Sequence[float] | Tensor | None = None, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self._set_vector("class_weight", class_weight)
