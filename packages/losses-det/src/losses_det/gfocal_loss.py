"""Generalised focal losses: quality focal and distribution focal (Li et al., NeurIPS 2020, arXiv 2006.04388)."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, TypeAlias, Unpack

import torch
from torch import Tensor

from losses_core import BaseLoss, LossOptions, examples
from losses_core.errors import InputError
from losses_core.utils import checks, host
from losses_core.utils.deferred import Deferred
from losses_core.utils.elementwise import Elements, Evaluated, set_at
from losses_core.utils.precision import full_precision
from losses_core.utils.weight_reduce import Unreduced
from losses_det._distribution import distribution_focal
from losses_det._one_pass import Rows
from losses_det._quality import Scores

QualityTarget: TypeAlias = Tensor | tuple[Tensor, Tensor]


@dataclasses.dataclass(frozen=True)
class _Quality:
    """|y - p|^β · BCE(p, y) of scores as dense as the predictions, as a `losses_core.utils.autograd.Formula`."""

    beta: float
    use_sigmoid: bool
    ignore_index: ClassVar[None] = None
    index: ClassVar[bool] = False

    def __call__(self, x: Tensor, t: Tensor) -> Evaluated:
        scores = Scores(x, t, use_sigmoid=self.use_sigmoid)
        return Evaluated(
            lambda: scores.focus(self.beta) * scores.entropy,
            lambda: scores.focused_slope(self.beta),
        )


@dataclasses.dataclass(frozen=True)
class _LabelledQuality:
    """`_Quality` summed over the classes, of one label and score per row, as a `losses_det._one_pass.Loss`.

    All classes are negatives but one, so only one element per row takes the formula with a score.
    """

    dense: _Quality

    def evaluate(self, pred: Tensor, label: Tensor, score: Tensor, *, with_slope: bool) -> tuple[Tensor, Tensor | None]:
        classes = pred.shape[-1]
        index, score = label.clamp(0, classes - 1).unsqueeze(-1), score.unsqueeze(-1)
        score = torch.where(index == label.unsqueeze(-1), score, 0)
        beta, use_sigmoid = self.dense.beta, self.dense.use_sigmoid
        background = Scores(pred, None, use_sigmoid=use_sigmoid)
        object_ = Scores(pred.gather(-1, index), score, use_sigmoid=use_sigmoid)
        value = set_at(background.focus(beta) * background.entropy, index, object_.focus(beta) * object_.entropy)
        if not with_slope:
            return value.sum(-1), None
        return value.sum(-1), set_at(background.focused_slope(beta), index, object_.focused_slope(beta))

    def slope(self, pred: Tensor, label: Tensor, score: Tensor) -> Tensor:
        return self.dense(pred, _dense_scores(pred, label, score)).slope()


def _dense_scores(pred: Tensor, label: Tensor, score: Tensor) -> Tensor:
    """Scores (…,C): the score at its label, 0 elsewhere; a label outside [0,C) gives a row of zeros."""
    classes = torch.arange(pred.shape[-1], device=pred.device)
    return torch.where(label.unsqueeze(-1) == classes, score.unsqueeze(-1), 0)


def _pair(target: Any) -> tuple[Tensor, Tensor]:
    if not isinstance(target, list | tuple) or len(target) != 2:
        raise InputError(f"expected target as a pair (label, score) or as scores (N, C); got {type(target).__name__}.")
    return checks.index("target[0], the label,", target[0]), checks.tensor("target[1], the score,", target[1])


@full_precision
def quality_focal_loss(pred: Tensor, target: QualityTarget, *, beta: float = 2.0, use_sigmoid: bool = True) -> Tensor:
    """Quality focal loss of each row, unreduced: see `QualityFocalLoss`.

    Args:
        pred: logits (N,C), or probabilities with ``use_sigmoid=False``; any number of leading dims.
        target: a pair of class indices (N,) and scores (N,), a label outside [0,C) being background; or scores (N,C).
        beta: focusing parameter ≥ 0.
        use_sigmoid: what ``pred`` holds.

    Returns:
        (N,)
    """
    return _deferred(pred, target, beta, use_sigmoid).unreduced().value


def _deferred(pred: Tensor, target: QualityTarget, beta: float, use_sigmoid: bool) -> Deferred:
    if pred.ndim == 0:
        raise InputError("expected pred of shape (N, C); got a 0-d tensor.")
    formula = _Quality(beta, use_sigmoid)
    shown = f"pred {tuple(pred.shape)}"
    if isinstance(target, Tensor):
        if target.shape == pred.shape[:-1] and not target.is_floating_point():
            raise InputError("expected target as a pair (label, score) or as scores (N, C); got labels only.")
        checks.shape("target", target, pred.shape, reference=f"{shown}, or a pair (label, score)")
        return RowSums(formula, pred, target.to(pred.dtype))
    label, score = _pair(target)
    checks.shape("target[0], the label,", label, pred.shape[:-1], reference=shown)
    checks.shape("target[1], the score,", score, pred.shape[:-1], reference=shown)
    score = score.to(pred.dtype)
    if score.requires_grad or torch.compiler.is_compiling():
        # a compiler makes one loop of this, and records what the score asks for
        return RowSums(formula, pred, _dense_scores(pred, label, score))
    rows = host.rows_per_block((1, pred.shape[-1]))
    return Rows(_LabelledQuality(formula), pred, label, score, keep=True, rows=rows)


class RowSums(Elements):
    """An elementwise loss of which the sum over the last axis counts as one."""

    def unreduced(self) -> Unreduced:
        return Unreduced(self.elements().sum(-1))

    def normalizer(self) -> float:
        return self.x.shape[:-1].numel()


@full_precision
def distribution_focal_loss(pred: Tensor, target: Tensor, *, reg_max: int = 16) -> Tensor:
    """Distribution focal loss of each target, unreduced: see `DistributionFocalLoss`.

    Args:
        pred: logits (…, reg_max+1), or (…, 4(reg_max+1)) for four sides at once.
        target: distances in [0, reg_max], (…), or (…,4) for four sides.
        reg_max: the largest distance ≥ 1.

    Returns:
        The shape of ``target``.
    """
    checks.tensor("target", target)
    bins, shape = reg_max + 1, tuple(pred.shape)
    if not shape or shape[-1] not in (bins, 4 * bins):
        raise InputError(
            f"expected pred of shape (…, {bins}) or (…, {4 * bins}) for reg_max={reg_max}, which has reg_max + 1 bins; "
            f"got {shape}. YOLOv8 calls the number of bins reg_max: its 16 is reg_max=15 here."
        )
    expected = shape[:-1] if shape[-1] == bins else (*shape[:-1], 4)
    checks.shape("target", target, expected, reference=f"pred {shape}")
    pred, target = pred.reshape(*expected, bins), target.to(pred.dtype)
    return distribution_focal(pred, target)


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
        - target: a pair (label, score): class indices (N,), of which any outside [0,C) is background (C is
          usual), and scores (N,) in [0,1]; or scores (N,C). Both give the same numbers.
        - weight: (N,), or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` (Σ l / N, or ``avg_factor``: the number of positives is usual) and ``sum``, (N,) for ``none``.

    Raises:
        InputError: a shape or a dtype that does not fit. ConfigError: an option outside its range.

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

    def __init__(self, beta: float = 2.0, use_sigmoid: bool = True, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.beta = checks.number(self, "beta", beta, low=0)
        self.use_sigmoid = checks.flag(self, "use_sigmoid", use_sigmoid)

    def _forward(self, pred: Tensor, target: QualityTarget) -> Deferred:
        return _deferred(pred, target, self.beta, self.use_sigmoid)


class DistributionFocalLoss(BaseLoss):
    r"""Distribution focal loss: a distance as a distribution over bins, drawn to the two bins around the target.

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
        InputError: a last axis that is neither of the two, unequal shapes. ConfigError: ``reg_max`` below 1.

    Example:
        >>> import torch
        >>> loss = DistributionFocalLoss(reg_max=2, reduction="none")
        >>> loss(torch.tensor([[0.0, 2.0, 0.0], [0.0, 0.0, 2.0]]), torch.tensor([0.5, 2.0]))
        tensor([1.2395, 0.2395])

    References:
        Li et al., Generalized Focal Loss: Learning Qualified and Distributed Bounding Boxes for Dense Object Detection,
        NeurIPS 2020, arXiv 2006.04388.

    Notes:
        Exact at y = reg_max, where well-known implementations read a bin that does not exist or ask for targets below.
        In GFL and YOLO heads the four sides of a box share one weight: give it as (N,) with pred (N, 4(reg_max+1)).
    """

    example = examples.BINS

    def __init__(self, reg_max: int = 16, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.reg_max = checks.number(self, "reg_max", reg_max, low=1, integer=True)

    def _forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return distribution_focal_loss(pred, target, reg_max=self.reg_max)

    def _on_pred(self, weight: Tensor, pred: Tensor) -> Tensor | None:
        if weight.ndim == pred.ndim and pred.shape[-1] == 4 * (self.reg_max + 1):  # a weight for each side
            weight = weight.repeat_interleave(self.reg_max + 1, -1)
        return super()._on_pred(weight, pred)
