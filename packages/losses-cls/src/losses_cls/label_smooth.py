"""Label smoothing (Szegedy et al., CVPR 2016, arXiv 1512.00567)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

from torch import Tensor

from losses_cls._targets import ignored_label
from losses_cls.cross_entropy import cross_entropy
from losses_core import BaseLoss, LossOptions, Unreduced, examples
from losses_core.errors import InputError
from losses_core.kernels import definition, delegate
from losses_core.utils import checks


@definition(delegates=True)
def label_smooth_loss(
    pred: Tensor,
    target: Tensor,
    *,
    smoothing: float = 0.1,
    class_weight: Tensor | None = None,
    ignore_index: int | None = -100,
) -> Unreduced:
    """Cross-entropy against smoothed labels, unreduced: see `LabelSmoothLoss`.

    Args:
        pred: logits (N,C,*S).
        target: class indices (N,*S), or probabilities (N,C,*S).
        smoothing: probability that is spread over all classes, in [0, 1).
        class_weight: (C,).
        ignore_index: label that is ignored; None: none is. For class indices only.

    Returns:
        ``Unreduced``: a value (N,*S), and as normalizer the class weight of each label, 0 where ignored.
    """
    options = {"class_weight": class_weight, "ignore_index": ignore_index, "label_smoothing": smoothing}
    return delegate(cross_entropy, pred, target, **options)


class LabelSmoothLoss(BaseLoss):
    r"""Cross-entropy against labels of which a part is spread evenly over all classes.

    .. math:: l = -\sum_c w_c\, \tilde y_c \log p_c, \qquad \tilde y = (1-s)\,\mathrm{onehot}(y) + s/K

    Use when: a classifier over-fits or is over-confident; the standard for image classification.

    Args:
        smoothing: s, in [0, 1). Default: 0.1.
        num_classes: K; checked against pred when given, taken from pred at every call otherwise. Default: None.
        class_weight: list or tensor of K weights ≥ 0. Default: none.
        ignore_index: label that is ignored: its loss and gradient are 0, and it is not counted; None: no label is.
            Default: -100. May also be given per call. For class indices only.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,K,*S).
        - target: (N,*S) integer in [0,K) or ``ignore_index``; or probabilities (N,K,*S), smoothed likewise.
        - weight: (N,*S) or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` (the denominator of cross-entropy) and ``sum``, (N,*S) for ``none``.

    Raises:
        InputError: as `CrossEntropyLoss`; a number of classes other than ``num_classes``.
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
        its first call; this one takes that of each call.
    """

    function = label_smooth_loss
    example = examples.LABELS

    def __init__(
        self,
        smoothing: float = 0.1,
        num_classes: int | None = None,
        class_weight: Sequence[float] | Tensor | None = None,
        ignore_index: int | None = -100,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.smoothing = checks.number(self, "smoothing", smoothing, low=0, below=1)
        self.num_classes = (
            None if num_classes is None else checks.number(self, "num_classes", num_classes, low=1, integer=True)
        )
        self._set_vector("class_weight", class_weight)
        self.ignore_index = ignored_label(self, ignore_index)

    def _arguments(self, pred: Any, target: Any, options: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
        if self.num_classes is not None and (pred.ndim < 2 or pred.shape[1] != self.num_classes):
            raise InputError(f"expected pred with num_classes={self.num_classes} on axis 1; got {tuple(pred.shape)}.")
        return pred, target, options
