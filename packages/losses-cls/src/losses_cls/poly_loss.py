"""Cross-entropy and focal loss with another first coefficient of their expansion (Leng et al., arXiv 2204.12511)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor

from losses_cls._targets import check_lengths, class_normalizer, ignored_label, like_pred, prepare_classes
from losses_cls.cross_entropy.softmax import negative_expectation
from losses_core import BaseLoss, LossOptions, Unreduced, examples
from losses_core.kernels import definition, delegate
from losses_core.utils import checks
from losses_core.utils.focal import sigmoid_focal


@definition(layout="classes", prepare=prepare_classes, normalizer=class_normalizer)
def poly_cross_entropy_loss(
    pred: Tensor,
    target: Tensor,
    *,
    epsilon: float = 1.0,
    class_weight: Tensor | None = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
) -> Unreduced:
    """Poly-1 cross-entropy, unreduced: see `PolyCrossEntropyLoss`.

    Args:
        pred: logits (N,C,*S).
        target: class indices (N,*S), or probabilities (N,C,*S).
        epsilon: coefficient of 1 - p.
        class_weight: (C,).
        ignore_index: label that is ignored; None: none is. For class indices only.
        label_smoothing: in [0, 1].

    Returns:
        ``Unreduced``: a value (N,*S), and as normalizer the class weight of each label, 0 where ignored.
    """

    def score(log_p: Tensor) -> Tensor:
        return log_p + epsilon * torch.expm1(log_p)

    return negative_expectation(pred, target, class_weight, ignore_index, label_smoothing, score)  # type: ignore[return-value]


@definition(delegates=True)
def poly_focal_loss(
    pred: Tensor,
    target: Tensor,
    *,
    epsilon: float = 1.0,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    ignore_index: int | None = -100,
) -> Unreduced:
    """Poly-1 focal loss of sigmoid probabilities, elementwise and unreduced: see `PolyFocalLoss`.

    Args:
        pred: logits, any shape.
        target: in [0, 1], of the shape of ``pred``; (N,) for ``pred`` (N,1).
        epsilon: coefficient of (1 - p_t)^(γ+1).
        alpha: weight of the positives (1 - alpha that of the negatives), a number or (C,) along axis 1; None or
            negative: off.
        gamma: focusing parameter ≥ 0.
        ignore_index: elements of the target equal to it are ignored; None: none is.

    Returns:
        ``Unreduced``: a value of the shape of ``pred``, and a normalizer of 1, 0 where ignored.
    """
    options = {"alpha": alpha, "gamma": gamma, "ignore_index": ignore_index, "epsilon": epsilon}
    target = like_pred(pred, target)
    check_lengths(pred, options)
    return delegate(sigmoid_focal, pred, target, **options)


class PolyCrossEntropyLoss(BaseLoss):
    r"""Cross-entropy plus ε (1 - p): Poly-1, cross-entropy with another first coefficient of its expansion.

    .. math::
        l = \sum_c w_c\, q_c \left[-\log p_c + \epsilon\, (1 - p_c)\right], \qquad p = \operatorname{softmax}(x)

    with :math:`q` the target distribution: one-hot, smoothed, or given. For a label without weights this is
    :math:`-\log p_y + \epsilon (1 - p_y)`.

    Use when: cross-entropy is the baseline and one more parameter may be tuned: ε > 0 makes predictions more confident,
    -1 ≤ ε < 0 less.

    Args:
        epsilon: ε, any finite number; 0 gives cross-entropy. Below -1 the loss can be negative. Default: 1.
        class_weight: list or tensor of C weights ≥ 0. Default: none.
        ignore_index: label that is ignored: its loss and gradient are 0, and it is not counted; None: no label is.
            Default: -100. May also be given per call. For class indices only.
        label_smoothing: in [0, 1]; the smoothed target is in both terms. Default: 0.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,C,*S), any number of further dims.
        - target: (N,*S) integer, values in [0,C) or ``ignore_index``; or probabilities (N,C,*S).
        - weight: (N,*S) or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` (the denominator of cross-entropy) and ``sum``, (N,*S) for ``none``.

    Raises:
        InputError: as `CrossEntropyLoss`.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = PolyCrossEntropyLoss(epsilon=1.0)
        >>> loss(torch.tensor([[2.0, 0.0]]), torch.tensor([0]))
        tensor(0.2461)

    References:
        Leng et al., PolyLoss: A Polynomial Expansion Perspective of Classification Loss Functions, ICLR 2022,
        arXiv 2204.12511.

    Notes:
        Equals timm's ``PolyCrossEntropy(epsilon, smoothing)``, whose default ε is 2, and which has no ``ignore_index``,
        no class weights and no dense predictions.
    """

    function = poly_cross_entropy_loss
    example = examples.LABELS

    def __init__(
        self,
        epsilon: float = 1.0,
        class_weight: Sequence[float] | Tensor | None = None,
        ignore_index: int | None = -100,
        label_smoothing: float = 0.0,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.epsilon = checks.number(self, "epsilon", epsilon)
        self._set_vector("class_weight", class_weight)
        self.ignore_index = ignored_label(self, ignore_index)
        self.label_smoothing = checks.number(self, "label_smoothing", label_smoothing, low=0, high=1)


class PolyFocalLoss(BaseLoss):
    r"""Sigmoid focal loss plus ε (1 - p_t)^(γ+1): Poly-1 for targets of 0 and 1.

    .. math::
        l = \alpha_t \left[(1-p_t)^\gamma \,\mathrm{BCE}(x, y) + \epsilon\, (1-p_t)^{\gamma+1}\right], \qquad
        1 - p_t = y (1-p) + (1-y)\, p, \quad p = \sigma(x)

    with :math:`\alpha_t = \alpha y + (1-\alpha)(1-y)`, on both terms.

    Use when: the focal loss is the baseline and one more parameter may be tuned: detectors, multi-label targets. For
    one label of many, use `PolyCrossEntropyLoss`.

    Args:
        epsilon: ε, any finite number; 0 gives the focal loss. Default: 1.
        alpha: weight of the positives in [0,1]; None or negative: off. Default: 0.25.
        gamma: focusing parameter ≥ 0. Default: 2.
        ignore_index: elements of the target equal to it are ignored; None: none is. Default: -100. May also be given
            per call.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits, any shape.
        - target: of the shape of pred, in [0,1] (float, int or bool), or (N,) for pred (N,1).
        - weight: of the shape of pred or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` (Σ l / number of elements not ignored) and ``sum``, the shape of pred for ``none``.

    Raises:
        InputError: a shape that does not fit; on the CPU, a target outside [0,1] that is not ``ignore_index``.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = PolyFocalLoss()
        >>> loss(torch.tensor([0.0, 2.0]), torch.tensor([1, 0]))
        tensor(0.9123)

    References:
        Leng et al., PolyLoss: A Polynomial Expansion Perspective of Classification Loss Functions, ICLR 2022,
        arXiv 2204.12511.

    Notes:
        Equals timm's ``PolyBinaryCrossEntropy(epsilon, gamma, alpha)``, whose defaults are 2, 0 and None. Gradients are
        finite for 0 < γ < 1 at saturated logits.
    """

    function = poly_focal_loss
    example = examples.BINARY

    def __init__(
        self,
        epsilon: float = 1.0,
        alpha: float | None = 0.25,
        gamma: float = 2.0,
        ignore_index: int | None = -100,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.epsilon = checks.number(self, "epsilon", epsilon)
        self.alpha = None if alpha is None else checks.number(self, "alpha", alpha, high=1)
        self.gamma = checks.number(self, "gamma", gamma, low=0)
        self.ignore_index = ignored_label(self, ignore_index)
