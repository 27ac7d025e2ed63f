"""Focal loss over class indices (Lin et al., ICCV 2017, arXiv 1708.02002)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_cls._targets import check_index, class_vector, ignored_label, index_normalizer, is_index
from losses_cls.focal_loss.sigmoid import binary_focal_loss, index_focal_loss
from losses_core import BaseLoss, LossOptions, Unreduced, examples
from losses_core.errors import InputError
from losses_core.kernels import Prepared, definition, delegate
from losses_core.utils import checks
from losses_core.utils.focal import alpha_is_off
from losses_core.utils.stable import power
from losses_core.utils.warn import warn_user

_ONE_CLASS = (
    "FocalLoss(use_sigmoid=True) with one class and index targets: label 0 is the positive and 1 the background. "
    "For targets of 0 and 1 with 1 as the positive, use BinaryFocalLoss."
)


def _prepare(pred: Tensor, target: Tensor, **options: Any) -> Prepared:
    if not is_index(pred, target):
        raise InputError(
            f"expected target with class indices of shape {(pred.shape[0], *pred.shape[2:])} for pred "
            f"{tuple(pred.shape)}; got {tuple(target.shape)}. One-hot targets need use_sigmoid=True."
        )
    target, options["ignore_index"] = check_index(pred, target, options["ignore_index"])
    alpha = 1.0 if alpha_is_off(options["alpha"]) else options["alpha"]
    options["alpha"] = class_vector("alpha", alpha, pred) if isinstance(alpha, Tensor) else alpha
    options["class_weight"] = class_vector("class_weight", options["class_weight"], pred)
    return pred, target, options


def _normalizer(
    pred: Tensor, target: Tensor, *, class_weight: Tensor | None, ignore_index: int | None, **_: Any
) -> Tensor | None:
    return index_normalizer(target, ignore_index, class_weight)


@definition(layout="classes", prepare=_prepare, normalizer=_normalizer)
def softmax_focal_loss(
    pred: Tensor,
    target: Tensor,
    *,
    alpha: Tensor | float | None = 0.25,
    gamma: float = 2.0,
    class_weight: Tensor | None = None,
    ignore_index: int | None = -100,
) -> Unreduced:
    """Focal loss of softmax probabilities, unreduced: see `FocalLoss`.

    Args:
        pred: logits (N,C,*S).
        target: class indices (N,*S).
        alpha: a plain factor, or (C,), one per class; None or negative: off.
        gamma: focusing parameter ≥ 0.
        class_weight: (C,).
        ignore_index: label that is ignored; None: none is.

    Returns:
        ``Unreduced``: a value (N,*S), and as normalizer the class weight of each label, 0 where ignored.
    """
    ignored = None if ignore_index is None else target == ignore_index
    if ignored is not None:
        pred, target = pred.masked_fill(ignored.unsqueeze(1), 0), target.masked_fill(ignored, 0)
    log_p = F.log_softmax(pred, 1).gather(1, target.unsqueeze(1)).squeeze(1)
    value: Tensor = -power(-torch.expm1(log_p), gamma) * log_p * label_factor(target, alpha, class_weight)
    return value if ignored is None else value.masked_fill(ignored, 0)  # type: ignore[return-value]


def label_factor(target: Tensor, alpha: Any, class_weight: Tensor | None) -> Any:
    """α times the weight of the class of each label."""
    alpha = alpha[target] if isinstance(alpha, Tensor) else alpha
    return alpha if class_weight is None else alpha * class_weight[target]


@definition(delegates=True)
def focal_loss(
    pred: Tensor,
    target: Tensor,
    *,
    alpha: Tensor | float | None = 0.25,
    gamma: float = 2.0,
    class_weight: Tensor | None = None,
    ignore_index: int | None = -100,
    use_sigmoid: bool = False,
) -> Unreduced:
    """Focal loss, unreduced: `softmax_focal_loss`, or with ``use_sigmoid`` `index_focal_loss` or `binary_focal_loss`.

    Args:
        pred: logits (N,C,*S).
        target: class indices (N,*S); with ``use_sigmoid`` also one-hot (N,C,*S).
        alpha: as in those.
        gamma: focusing parameter ≥ 0.
        class_weight: (C,).
        ignore_index: label, or with a one-hot target element, that is ignored; None: none is.
        use_sigmoid: one sigmoid per class instead of one softmax.

    Returns:
        ``Unreduced``: a value (N,*S), or (N,C,*S) with ``use_sigmoid``, and its normalizer.
    """
    function = softmax_focal_loss
    if use_sigmoid:
        function = index_focal_loss if is_index(pred, target) else binary_focal_loss
        if function is index_focal_loss and pred.shape[1] == 1:
            warn_user(_ONE_CLASS, once=True)
    options = {"alpha": alpha, "gamma": gamma, "class_weight": class_weight, "ignore_index": ignore_index}
    return delegate(function, pred, target, **options)


class FocalLoss(BaseLoss):
    r"""Focal loss over class indices: cross-entropy that down-weights examples that are already classified well.

    .. math:: l = -\alpha\, (1-p_y)^\gamma \log p_y, \qquad p = \operatorname{softmax}(x)

    With ``use_sigmoid=True``, for each class on its own, :math:`p = \sigma(x)` and
    :math:`l = -\alpha_t (1-p_t)^\gamma \log p_t`, where :math:`p_t, \alpha_t` are :math:`p, \alpha` for the class of
    the label and :math:`1-p, 1-\alpha` for the others.

    Use when: classes are imbalanced or easy samples dominate; dense detection (``use_sigmoid=True``).

    Args:
        alpha: a plain factor (softmax) or the weight of positives (sigmoid); a list of C gives one per class; None or
            negative: off. Default: 0.25.
        gamma: focusing parameter ≥ 0; 0 gives cross-entropy. Default: 2.
        class_weight: list or tensor of C weights ≥ 0. Default: none.
        ignore_index: label that is ignored: its loss and gradient are 0, and it is not counted; None: no label is.
            Default: -100. May also be given per call.
        use_sigmoid: one sigmoid per class, as in RetinaNet, instead of one softmax. Default: False.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,C,*S).
        - target: (N,*S) integer in [0,C) or ``ignore_index``; with ``use_sigmoid`` also C for background, or one-hot
          (N,C,*S).
        - weight: of the shape of the loss or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` and ``sum``; for ``none`` (N,*S), or (N,C,*S) with ``use_sigmoid``.

    Raises:
        InputError: a shape or a dtype that does not fit; on the CPU, a label that is not allowed.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = FocalLoss(alpha=None, gamma=2.0)
        >>> loss(torch.tensor([[2.0, 0.0]]), torch.tensor([0]))
        tensor(0.0018)

    References:
        Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, arXiv 1708.02002, eq. 4-5.

    Notes:
        The denominator of ``mean`` is that of cross-entropy, so ``FocalLoss(alpha=None, gamma=0, class_weight=w)``
        equals ``CrossEntropyLoss(class_weight=w)``; with ``use_sigmoid`` it is the number of elements not ignored, and
        detectors pass ``avg_factor`` (the number of positives). Gradients are finite for 0 < γ < 1 at saturated logits,
        where torchvision and kornia give NaN.
    """

    function = focal_loss
    example = examples.LABELS

    def __init__(
        self,
        alpha: float | Sequence[float] | Tensor | None = 0.25,
        gamma: float = 2.0,
        class_weight: Sequence[float] | Tensor | None = None,
        ignore_index: int | None = -100,
        use_sigmoid: bool = False,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self._set_vector("alpha", alpha)
        self.gamma = checks.number(self, "gamma", gamma, low=0)
        self._set_vector("class_weight", class_weight)
        self.ignore_index = ignored_label(self, ignore_index)
        self.use_sigmoid = checks.flag(self, "use_sigmoid", use_sigmoid)
