"""Generalised focal losses: quality focal and distribution focal (Li et al., NeurIPS 2020, arXiv 2006.04388)."""

from __future__ import annotations

from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core import BaseLoss, LossOptions, examples
from losses_core.errors import InputError
from losses_core.kernels import Prepared, definition
from losses_core.utils import checks
from losses_core.utils.value_checks import check_probabilities
from losses_det._quality import QualityTarget, distance_and_entropy, focused, matched_quality, quality_target


def _prepare_quality(pred: Any, target: Any, **options: Any) -> Prepared:
    if not options["use_sigmoid"]:
        check_probabilities(
            checks.tensor("pred", pred), name="pred", cure="Does pred hold logits? Then set use_sigmoid=True."
        )
    return pred, quality_target(pred, target, check_scores=True), options


@definition(layout="last", prepare=_prepare_quality)
def quality_focal_loss(pred: Tensor, target: QualityTarget, *, beta: float = 2.0, use_sigmoid: bool = True) -> Tensor:
    """Quality focal loss of each row, unreduced: see `QualityFocalLoss`.

    Args:
        pred: logits (N,C), or probabilities with ``use_sigmoid=False``; any number of leading dims.
        target: a pair of class indices (N,), C or -1 for background, and scores (N,); or scores (N,C).
        beta: focusing parameter ≥ 0.
        use_sigmoid: what ``pred`` holds.

    Returns:
        (N,)
    """
    _, target = matched_quality(pred, target)
    distance, entropy = distance_and_entropy(pred, target, use_sigmoid)
    return (focused(distance, beta) * entropy).sum(-1)


def _prepare_distribution(pred: Tensor, target: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    checks.tensor("pred", pred)
    checks.tensor("target", target)
    reg_max, shape = options["reg_max"], tuple(pred.shape)
    bins = reg_max + 1
    if not shape or shape[-1] not in (bins, 4 * bins):
        raise InputError(
            f"expected pred of shape (…, {bins}) or (…, {4 * bins}) for reg_max={reg_max}, which has reg_max + 1 bins; "
            f"got {shape}. YOLOv8 calls the number of bins reg_max: its 16 is reg_max=15 here."
        )
    expected = shape[:-1] if shape[-1] == bins else (*shape[:-1], 4)
    checks.shape("target", target, expected, reference=f"pred {shape}")
    return pred.reshape(*expected, bins), target if target.is_floating_point() else target.to(pred.dtype), options


def neighbours(y: Tensor, reg_max: int) -> tuple[Tensor, Tensor]:
    """The two bins around y, (…,2), and the share of each; at ``reg_max`` all of it is the last bin's."""
    y = y.clamp(0, reg_max)
    left = y.long().clamp(0, reg_max - 1)  # clamped once more: NaN has become any number
    right_share = y - left
    return torch.stack((left, left + 1), -1), torch.stack((1 - right_share, right_share), -1)


@definition(layout="last", prepare=_prepare_distribution)
def distribution_focal_loss(pred: Tensor, target: Tensor, *, reg_max: int = 16) -> Tensor:
    """Distribution focal loss of each target, unreduced: see `DistributionFocalLoss`.

    Args:
        pred: logits (…, reg_max+1), or (…, 4(reg_max+1)) for four sides at once.
        target: distances in [0, reg_max], (…), or (…,4) for four sides.
        reg_max: the largest distance ≥ 1.

    Returns:
        The shape of ``target``.
    """
    index, share = neighbours(target, reg_max)
    return -(F.log_softmax(pred, -1).gather(-1, index) * share).sum(-1)


class QualityFocalLoss(BaseLoss):
    r"""Quality focal loss: one score per class that is both its probability and the quality of the box.

    .. math::
        l = \sum_c |y_c - p_c|^\beta \left[ -y_c \ln p_c - (1-y_c) \ln(1-p_c) \right], \qquad p = \sigma(x)

    Use when: dense detection where classification and localisation quality are learned as one: the target of a positive
    is its IoU with the ground truth.

    Args:
        beta: focusing parameter ≥ 0. Default: 2.
        use_sigmoid: pred holds logits (True) or probabilities. Default: True.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,C); any number of leading dims.
        - target: a pair (label, score): class indices (N,), C or -1 for background, and
          scores (N,) in [0,1]; or scores (N,C). Both give the same numbers.
        - weight: (N,), or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` (Σ l / N, or ``avg_factor``: the number of positives is usual) and ``sum``, (N,) for ``none``.

    Raises:
        InputError: a shape or a dtype that does not fit.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = QualityFocalLoss(reduction="none")
        >>> pred = torch.tensor([[2.0, -2.0], [-3.0, -3.0]])
        >>> label, iou = torch.tensor([0, 2]), torch.tensor([0.7, 0.0])
        >>> loss(pred, (label, iou))
        tensor([0.0256, 0.0002])

    References:
        Li et al., Generalized Focal Loss: Learning Qualified and Distributed Bounding Boxes for Dense Object Detection,
        NeurIPS 2020, arXiv 2006.04388.

    Notes:
        Equals the authors' code, without its search for the positives: nothing waits for the device. With scores of 0
        and 1 it is the focal loss without alpha.
    """

    example = examples.QUALITY.probabilities_if("use_sigmoid", False)
    function = quality_focal_loss

    def __init__(self, beta: float = 2.0, use_sigmoid: bool = True, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.beta = checks.number(self, "beta", beta, low=0)
        self.use_sigmoid = checks.flag(self, "use_sigmoid", use_sigmoid)


class DistributionFocalLoss(BaseLoss):
    r"""Distribution focal loss: a distance as a distribution over bins, trained towards the two around the target.

    .. math::
        l = -\left[ (y_{i+1} - y) \ln S_i + (y - y_i) \ln S_{i+1} \right], \qquad S = \operatorname{softmax}(x),
        \quad y_i \le y \le y_{i+1}

    Use when: boxes are predicted as discrete distributions over the distances to their four sides.

    Args:
        reg_max: the largest distance, in bins ≥ 1; there are reg_max + 1 bins, 0 … reg_max. GFL has 16, YOLOv6 16;
            YOLOv8 calls the number of bins reg_max: its 16 is 15 here. Default: 16.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (…, reg_max+1); or (N, 4(reg_max+1)), the bins of one side after those of the other.
        - target: distances in bins (…); or (N,4). Values outside [0, reg_max] are clamped (not in place).
        - weight: the shape of target or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` (Σ l / number of targets, or ``avg_factor``) and ``sum``, the shape of target for ``none``.

    Raises:
        InputError: a last axis that is neither of the two, unequal shapes.
        ConfigError: ``reg_max`` below 1.

    Example:
        >>> import torch
        >>> loss = DistributionFocalLoss(reg_max=2, reduction="none")
        >>> loss(torch.tensor([[0.0, 2.0, 0.0], [0.0, 0.0, 2.0]]), torch.tensor([0.5, 2.0]))
        tensor([1.2395, 0.2395])

    References:
        Li et al., Generalized Focal Loss: Learning Qualified and Distributed Bounding Boxes for Dense Object Detection,
        NeurIPS 2020, arXiv 2006.04388.

    Notes:
        Exact at y = reg_max, where well-known implementations read a bin that does not exist or require targets below
        it.
        In GFL and YOLO heads the four sides of a box share one weight: give it as (N,) with pred (N, 4(reg_max+1)).
    """

    example = examples.BINS
    function = distribution_focal_loss

    def __init__(self, reg_max: int = 16, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.reg_max = checks.number(self, "reg_max", reg_max, low=1, integer=True)

    def _stand_in(self, target: Any, num_classes: int | None) -> Tensor:
        return self._zeros((*target.shape, self.reg_max + 1), target)
