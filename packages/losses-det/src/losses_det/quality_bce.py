"""Cross-entropy against the IoU of the matched box: matchability-aware loss (DEIM), IoU-aware BCE (Align-DETR)."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from losses_core import BaseLoss, LossOptions, examples
from losses_core.kernels import Prepared, definition
from losses_core.utils import checks
from losses_core.utils.stable import binary_cross_entropy, power
from losses_det._quality import QualityTarget, matched_quality, quality_target


def _prepare(pred: Any, target: Any, **options: Any) -> Prepared:
    target = quality_target(pred, target, check_scores=False)
    detached = target.detach() if isinstance(target, Tensor) else (target[0], target[1].detach())
    return pred, detached, options


@definition(layout="last", prepare=_prepare)
def matchability_aware_loss(
    pred: Tensor, target: QualityTarget, *, alpha: float | None = None, gamma: float = 1.5
) -> Tensor:
    """Matchability-aware loss of each row, unreduced: see `MatchabilityAwareLoss`.

    Args:
        pred: logits (…,C).
        target: a pair of class indices (…), C or -1 for background, and IoUs (…); or qualities (…,C).
        alpha: weight of all but the matched classes ≥ 0; None: 1.
        gamma: exponent of the quality and of the focusing ≥ 0.

    Returns:
        (…)
    """
    matched, quality = matched_quality(pred, target)
    negative = power(torch.sigmoid(pred.detach()), gamma)
    weight = torch.where(matched, 1, negative if alpha is None else alpha * negative)
    soft = torch.where(matched, power(quality, gamma), 0)
    return (weight * binary_cross_entropy(pred, soft)).sum(-1)


def aligned_target(x: Tensor, quality: Tensor, alpha: float, min_target: float) -> Tensor:
    """max(p^α q^(1-α), min_target), without a gradient."""
    return (power(torch.sigmoid(x.detach()), alpha) * power(quality, 1 - alpha)).clamp(min=min_target)


@definition(layout="last", prepare=_prepare)
def iou_aware_bce_loss(
    pred: Tensor, target: QualityTarget, *, alpha: float = 0.25, gamma: float = 2.0, min_target: float = 0.01
) -> Tensor:
    """IoU-aware binary cross-entropy of each row, unreduced: see `IoUAwareBCELoss`.

    Args:
        pred: logits (…,C).
        target: a pair of class indices (…), C or -1 for background, and IoUs (…); or qualities (…,C).
        alpha: share of the prediction in the target of a matched class, in [0,1].
        gamma: focusing of all other classes ≥ 0.
        min_target: lower bound of the target of a matched class, in [0,1].

    Returns:
        (…)
    """
    matched, quality = matched_quality(pred, target)
    weight = torch.where(matched, 1, power(torch.sigmoid(pred), gamma))
    soft = torch.where(matched, aligned_target(pred, quality, alpha, min_target), 0)
    return (weight * binary_cross_entropy(pred, soft)).sum(-1)


class MatchabilityAwareLoss(BaseLoss):
    r"""Matchability-aware loss: the target score of a matched box is a power of its IoU, low ones included.

    With :math:`q` the IoU of the matched box, and :math:`p^\gamma` a constant in the gradient,

    .. math::
        l = \mathrm{BCE}(x_y, q^\gamma) + \alpha \sum_{c \ne y} p_c^\gamma\, \mathrm{BCE}(x_c, 0), \qquad p = \sigma(x)

    Use when: classification in a transformer detector whose matches are many and of any quality, as with dense
    one-to-one matching (DEIM).

    Args:
        alpha: weight of all but the matched classes ≥ 0. Default: None, 1.
        gamma: exponent of the quality and of the focusing ≥ 0; 1.5 as in the published configs. Default: 1.5.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (…,C).
        - target: a pair (label, IoU): class indices (…), C or -1 for background, and IoUs (…) in [0,1], which get no
          gradient and are not checked; or qualities (…,C), > 0 where matched. In a pair a row with a label stays
          matched at an IoU of 0.
        - weight: (…), or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` (Σ l / number of rows, or ``avg_factor``: the number of boxes in DETR heads) and ``sum``, (…)
        for ``none``.

    Raises:
        InputError: a shape, a dtype or a label that does not fit.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = MatchabilityAwareLoss(reduction="none")
        >>> pred = torch.tensor([[2.0, -2.0], [-3.0, -3.0]])
        >>> loss(pred, (torch.tensor([0, 2]), torch.tensor([0.7, 0.0])))
        tensor([0.9608, 0.0010])

    References:
        Huang et al., DEIM: DETR with Improved Matching for Fast Convergence, CVPR 2025, arXiv 2412.04234.

    Notes:
        Equals ``loss_labels_mal`` of the authors and of transformers, which pass every term through ``nan_to_num``;
        this library does not hide a NaN. The class default of gamma is 2 in the authors' code. Also registered as
        ``MALoss``.
    """

    example = examples.QUALITY
    function = matchability_aware_loss

    def __init__(self, alpha: float | None = None, gamma: float = 1.5, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.alpha = None if alpha is None else checks.number(self, "alpha", alpha, low=0)
        self.gamma = checks.number(self, "gamma", gamma, low=0)


MALoss = MatchabilityAwareLoss


class IoUAwareBCELoss(BaseLoss):
    r"""IoU-aware binary cross-entropy: the target of a matched box mixes its score with its IoU.

    With :math:`q` the IoU of the matched box and :math:`t` a constant in the gradient,

    .. math::
        l = -t \ln p_y - (1-t) \ln(1-p_y) - \sum_{c \ne y} p_c^\gamma \ln(1 - p_c), \qquad
        t = \max(p_y^\alpha q^{1-\alpha},\, t_0), \quad p = \sigma(x)

    Use when: classification in a transformer detector where scores are to rank boxes by their IoU, as in Align-DETR,
    LW-DETR and RF-DETR.

    Args:
        alpha: share of the prediction in the target of a matched class, in [0,1]. Default: 0.25.
        gamma: focusing of all other classes ≥ 0; the gradient flows through it. Default: 2.
        min_target: lower bound t₀ of the target of a matched class, in [0,1]. Default: 0.01.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (…,C).
        - target: a pair (label, IoU): class indices (…), C or -1 for background, and IoUs (…) in [0,1], which get no
          gradient and are not checked; or qualities (…,C), > 0 where matched. In a pair a row with a label stays
          matched at an IoU of 0.
        - weight: (…), or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` (Σ l / number of rows, or ``avg_factor``: the number of boxes in DETR heads) and ``sum``, (…)
        for ``none``.

    Raises:
        InputError: a shape, a dtype or a label that does not fit.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = IoUAwareBCELoss(reduction="none")
        >>> pred = torch.tensor([[2.0, -2.0], [-1.0, -1.0]])
        >>> loss(pred, (torch.tensor([0, 2]), torch.tensor([0.7, 0.0])))
        tensor([0.6460, 0.0453])

    References:
        Cai et al., Align-DETR: Enhancing End-to-end Object Detection with Aligned Loss, BMVC 2024, arXiv 2304.07527.
        Chen et al., LW-DETR: A Transformer Replacement to YOLO for Real-Time Detection, 2024, arXiv 2406.03459.

    Notes:
        Equals the LW-DETR loss of transformers in value and gradient, where that is finite: it takes the logarithm of a
        probability, which is infinite at a logit of 20 and NaN at -120.
    """

    example = examples.QUALITY
    function = iou_aware_bce_loss

    def __init__(
        self, alpha: float = 0.25, gamma: float = 2.0, min_target: float = 0.01, **options: Unpack[LossOptions]
    ) -> None:
        super().__init__(**options)
        self.alpha = checks.number(self, "alpha", alpha, low=0, high=1)
        self.gamma = checks.number(self, "gamma", gamma, low=0)
        self.min_target = checks.number(self, "min_target", min_target, low=0, high=1)
