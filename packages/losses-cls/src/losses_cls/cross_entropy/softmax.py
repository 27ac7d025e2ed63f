"""Softmax cross-entropy against class indices or distributions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor

from losses_cls._targets import classes_of, is_index
from losses_cls.cross_entropy._distributions_host import DistributionCrossEntropy
from losses_cls.cross_entropy._labels_host import LabelCrossEntropy
from losses_cls.cross_entropy._softmax import cross_entropy
from losses_core import BaseLoss, LossOptions, examples
from losses_core.utils import checks
from losses_core.utils.deferred import Deferred


def deferred_cross_entropy(
    pred: Tensor, target: Tensor, class_weight: Tensor | None, ignore_index: int, smoothing: float
) -> Tensor | Deferred:
    """`cross_entropy` of labels, or of probabilities, to be computed."""
    if is_index(pred, target):
        labels = checks.index("target", target)
        return LabelCrossEntropy(pred, labels, ignore_index=ignore_index, mass_weight=class_weight, smoothing=smoothing)
    return cross_entropy(pred, target, class_weight=class_weight, ignore_index=ignore_index, label_smoothing=smoothing)


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
        RuntimeError: on the CPU, a label outside [0,C) that is not ``ignore_index``.

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
        the plain mean. They differ where every label is ignored (here 0, there NaN) and where an ignored place holds
        NaN or inf (here its gradient is exactly 0, there NaN).
    """

    example = examples.LABELS
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

    def _forward(self, pred: Tensor, target: Tensor, *, ignore_index: int) -> Tensor | Deferred:
        weight = self._vector("class_weight", pred, classes_of(pred))
        return deferred_cross_entropy(pred, target, weight, ignore_index, self.label_smoothing)


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

    example = examples.DISTRIBUTIONS
    class_axis = 1

    def __init__(self, class_weight: Sequence[float] | Tensor | None = None, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self._set_vector("class_weight", class_weight)

    def _forward(self, pred: Tensor, target: Tensor) -> DistributionCrossEntropy:
        checks.same_shape(pred, target)
        weight = self._vector("class_weight", pred, classes_of(pred))
        return DistributionCrossEntropy(pred, target.to(pred.dtype), weight)
