"""Label smoothing (Szegedy et al., CVPR 2016, arXiv 1512.00567)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor

from losses_cls._targets import classes_of
from losses_cls.cross_entropy import cross_entropy
from losses_cls.cross_entropy.softmax import deferred_cross_entropy
from losses_core import BaseLoss, LossOptions, examples
from losses_core.errors import InputError
from losses_core.utils import checks
from losses_core.utils.deferred import Deferred
from losses_core.utils.precision import full_precision


@full_precision
def label_smooth_loss(
    pred: Tensor,
    target: Tensor,
    *,
    smoothing: float = 0.1,
    class_weight: Tensor | None = None,
    ignore_index: int = -100,
) -> Tensor:
    """Cross-entropy against smoothed labels, unreduced: see `LabelSmoothLoss`.

    Args:
        pred: logits (N,C,*S).
        target: class indices (N,*S), or probabilities (N,C,*S).
        smoothing: probability normalizer spread over all classes, in [0, 1).
        class_weight: (C,).
        ignore_index: label whose loss and gradient are 0 (index targets).

    Returns:
        (N,*S)
    """
    return cross_entropy(pred, target, class_weight=class_weight, ignore_index=ignore_index, label_smoothing=smoothing)


class LabelSmoothLoss(BaseLoss):
    r"""Cross-entropy against labels of which a part is spread evenly over all classes.

    .. math:: l = -\sum_c w_c\, \tilde y_c \log p_c, \qquad \tilde y = (1-s)\,\mathrm{onehot}(y) + s/K

    Use when: a classifier over-fits or is over-confident; the standard for image classification.

    Args:
        smoothing: s, in [0, 1). Default: 0.1.
        num_classes: K; checked against pred when given, taken from pred at every call otherwise. Default: None.
        class_weight: list or tensor of K weights ≥ 0. Default: none.
        ignore_index: label that costs nothing and gets no gradient. Default: -100. May also be given per call.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,K,*S).
        - target: (N,*S) integer in [0,K) or ``ignore_index``; or probabilities (N,K,*S), smoothed likewise.
        - weight: (N,*S) or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` (the denominator of cross-entropy) and ``sum``, (N,*S) for ``none``.

    Raises:
        InputError: a shape that does not fit, a number of classes other than ``num_classes``.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = LabelSmoothLoss(smoothing=0.1)
        >>> loss(torch.tensor([[2.0, 0.0]]), torch.tensor([0]))
        tensor(0.2269)

    References:
        Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016, arXiv 1512.00567.

    Notes:
        Equals ``CrossEntropyLoss(label_smoothing=s)`` and torch's. mmpretrain's class fixes the number of classes at
        its first call; here it is that of each call.
    """

    example = examples.LABELS
    class_axis = 1

    def __init__(
        self,
        smoothing: float = 0.1,
        num_classes: int | None = None,
        class_weight: Sequence[float] | Tensor | None = None,
        ignore_index: int = -100,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.smoothing = checks.number(self, "smoothing", smoothing, low=0, below=1)
        self.num_classes = (
            None if num_classes is None else checks.number(self, "num_classes", num_classes, low=1, integer=True)
        )
        self._set_vector("class_weight", class_weight)
        self.ignore_index = checks.number(self, "ignore_index", ignore_index, integer=True)

    def _forward(self, pred: Tensor, target: Tensor, *, ignore_index: int) -> Tensor | Deferred:
        classes = classes_of(pred)
        if self.num_classes is not None and classes != self.num_classes:
            raise InputError(f"expected pred with num_classes={self.num_classes} on axis 1; got {tuple(pred.shape)}.")
        weight = self._vector("class_weight", pred, classes)
        return deferred_cross_entropy(pred, target, weight, ignore_index, self.smoothing)
