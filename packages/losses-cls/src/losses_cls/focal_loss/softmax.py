"""Focal loss over class indices (Lin et al., ICCV 2017, arXiv 1708.02002)."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Sequence
from typing import ClassVar, Unpack

import torch
from torch import Tensor

from losses_cls._targets import classes_of, is_index
from losses_cls.cross_entropy._labels_host import LabelCrossEntropy
from losses_cls.focal_loss.sigmoid import deferred_focal
from losses_core import BaseLoss, LossOptions, examples
from losses_core.errors import InputError
from losses_core.utils import checks
from losses_core.utils.deferred import Deferred
from losses_core.utils.elementwise import Evaluated, power
from losses_core.utils.precision import full_precision


@dataclasses.dataclass(frozen=True)
class _OfCrossEntropy:
    """α w (1-p)^γ c as a function of the cross-entropy c = -log p of the true class."""

    alpha: float
    gamma: float
    ignore_index: ClassVar[None] = None  # ignored labels have c = 0 already
    index: ClassVar[bool] = False

    def __call__(self, c: Tensor, t: Tensor, weight: Tensor | None = None) -> Evaluated:
        q = -torch.expm1(-c)
        focus = power(q, self.gamma)
        factor = self.alpha if weight is None else self.alpha * weight

        def slope() -> Tensor:
            # c · d(q^γ)/dc = γ q^γ · p c/q, and p c/q stays in [0,1]: finite for every γ ≥ 0 where p reaches 1
            ratio = (1 - q) * c / q.clamp(min=torch.finfo(q.dtype).tiny)
            return focus * (1 + self.gamma * ratio) * factor

        return Evaluated(lambda: focus * c * factor, slope)


@full_precision
def softmax_focal_loss(
    pred: Tensor,
    target: Tensor,
    *,
    alpha: Tensor | float | None = 0.25,
    gamma: float = 2.0,
    class_weight: Tensor | None = None,
    ignore_index: int = -100,
) -> Tensor:
    """Focal loss of softmax probabilities, unreduced: see `FocalLoss`.

    Args:
        pred: logits (N,C,*S).
        target: class indices (N,*S).
        alpha: a plain factor, (C,) one per class, or None for 1.
        gamma: focusing parameter ≥ 0.
        class_weight: (C,).
        ignore_index: label whose loss and gradient are 0.

    Returns:
        (N,*S)
    """
    return _deferred_focal(pred, target, alpha, gamma, class_weight, ignore_index).elements()


def _deferred_focal(
    pred: Tensor,
    target: Tensor,
    alpha: Tensor | float | None,
    gamma: float,
    class_weight: Tensor | None,
    ignore_index: int,
) -> LabelCrossEntropy:
    if not is_index(pred, target):
        raise InputError(
            f"expected target with class indices of shape {(pred.shape[0], *pred.shape[2:])} for pred "
            f"{tuple(pred.shape)}; got {tuple(target.shape)}. One-hot targets need use_sigmoid=True."
        )
    per_class = isinstance(alpha, Tensor)
    return LabelCrossEntropy(
        pred,
        checks.index("target", target),
        ignore_index=ignore_index,
        mass_weight=class_weight,
        value_weight=alpha if isinstance(alpha, Tensor) else None,
        focus=_OfCrossEntropy(1.0 if alpha is None or per_class else float(alpha), gamma),
    )


@functools.cache
def _warn_one_class() -> None:
    warnings.warn(
        "FocalLoss(use_sigmoid=True) with one class and index targets: label 0 is the positive and 1 the background. "
        "For targets of 0 and 1 with 1 as the positive, use BinaryFocalLoss.",
        stacklevel=2,
    )


class FocalLoss(BaseLoss):
    r"""Focal loss over class indices: cross-entropy that turns away from what is already classified well.

    .. math:: l = -\alpha\, (1-p_y)^\gamma \log p_y, \qquad p = \operatorname{softmax}(x)

    With ``use_sigmoid=True``, for each class on its own, :math:`p = \sigma(x)` and
    :math:`l = -\alpha_t (1-p_t)^\gamma \log p_t`, where :math:`p_t, \alpha_t` are :math:`p, \alpha` for the class of
    the label and :math:`1-p, 1-\alpha` for the others.

    Use when: classes are imbalanced or easy samples dominate; dense detection (``use_sigmoid=True``).

    Args:
        alpha: a plain factor (softmax) or the weight of positives (sigmoid); a list of C gives one per class; None:
            off. Default: 0.25.
        gamma: focusing parameter ≥ 0; 0 gives cross-entropy. Default: 2.
        class_weight: list or tensor of C weights ≥ 0. Default: none.
        ignore_index: label that costs nothing and gets no gradient. Default: -100. May also be given per call.
        use_sigmoid: one sigmoid per class, as in RetinaNet, instead of one softmax. Default: False.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,C,*S); (N,C) with ``use_sigmoid``.
        - target: (N,*S) integer in [0,C) or ``ignore_index``; with ``use_sigmoid`` (N,), where C is background, or
          one-hot (N,C).
        - weight: of the shape of the loss or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` and ``sum``; for ``none`` (N,*S), or (N,C) with ``use_sigmoid``.

    Raises:
        InputError: a shape or a dtype that does not fit.
        ConfigError: an option outside its range.
        RuntimeError: on the CPU, a label outside [0,C) that is not ``ignore_index`` (softmax).

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

    example = examples.LABELS

    def __init__(
        self,
        alpha: float | Sequence[float] | Tensor | None = 0.25,
        gamma: float = 2.0,
        class_weight: Sequence[float] | Tensor | None = None,
        ignore_index: int = -100,
        use_sigmoid: bool = False,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self._set_vector("alpha", alpha)
        self.gamma = checks.number(self, "gamma", gamma, low=0)
        self._set_vector("class_weight", class_weight)
        self.ignore_index = checks.number(self, "ignore_index", ignore_index, integer=True)
        self.use_sigmoid = checks.flag(self, "use_sigmoid", use_sigmoid)
        self.class_axis = None if use_sigmoid else 1  # type: ignore[misc]  # one class, two shapes of the loss

    def _forward(self, pred: Tensor, target: Tensor, *, ignore_index: int) -> Deferred:
        classes = classes_of(pred)
        class_weight = self._vector("class_weight", pred, classes)
        alpha = self.alpha if isinstance(self.alpha, int | float) else self._vector("alpha", pred, classes)
        if not self.use_sigmoid:
            return _deferred_focal(pred, target, alpha, self.gamma, class_weight, ignore_index)
        if pred.ndim != 2:
            raise InputError(f"expected pred of shape (N, C) with use_sigmoid=True; got {tuple(pred.shape)}.")
        index = checks.tensor("target", target).ndim == 1
        if index and classes == 1 and not torch.compiler.is_compiling():
            _warn_one_class()
        return deferred_focal(pred, target, alpha, self.gamma, class_weight, ignore_index, index=index)
