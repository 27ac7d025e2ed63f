"""Varifocal loss for IoU-aware classification scores (Zhang et al., CVPR 2021, arXiv 2008.13367)."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Unpack

import torch
from torch import Tensor

from losses_core import BaseLoss, LossOptions, examples
from losses_core.errors import InputError
from losses_core.utils import checks, temporaries
from losses_core.utils.elementwise import Elements, Evaluated
from losses_core.utils.precision import full_precision
from losses_det._geometry import where_above
from losses_det._quality import Scores


@dataclasses.dataclass(frozen=True)
class _Varifocal:
    """q · BCE where q > 0, else α |p - q|^γ · BCE, as a `losses_core.utils.autograd.Formula`."""

    alpha: float
    gamma: float
    use_sigmoid: bool
    iou_weighted: bool
    ignore_index: ClassVar[None] = None
    index: ClassVar[bool] = False

    def __call__(self, x: Tensor, t: Tensor) -> Evaluated:
        scores = Scores(x, t, use_sigmoid=self.use_sigmoid)
        # the weight of a positive, 0 at the negatives
        positive = t if self.iou_weighted else torch.sign(t)

        def value() -> Tensor:
            weight = torch.add(positive, _at_negatives(t, scores.focus(self.gamma)), alpha=self.alpha)
            return temporaries.mul(weight, scores.entropy)

        def slope() -> Tensor:
            negative = _at_negatives(t, scores.focused_slope(self.gamma))
            return torch.add(positive * scores.entropy_slope(), negative, alpha=self.alpha)

        return Evaluated(value, slope)


def _at_negatives(t: Tensor, value: Tensor) -> Tensor:
    """``value`` where q = 0, else 0."""
    return where_above(-torch.finfo(t.dtype).tiny, -t, value)


@full_precision
def varifocal_loss(
    pred: Tensor,
    target: Tensor,
    *,
    alpha: float = 0.75,
    gamma: float = 2.0,
    use_sigmoid: bool = True,
    iou_weighted: bool = True,
) -> Tensor:
    """Varifocal loss of each element, unreduced: see `VariFocalLoss`.

    Args:
        pred: logits, or probabilities with ``use_sigmoid=False``; any shape.
        target: IoU-aware scores in [0,1] of the shape of ``pred``, 0 for negatives.
        alpha: weight of the negatives ≥ 0.
        gamma: focusing of the negatives ≥ 0.
        use_sigmoid: what ``pred`` holds.
        iou_weighted: weight a positive by its score, not by 1.

    Returns:
        The shape of ``pred``.
    """
    return _deferred(pred, target, _Varifocal(alpha, gamma, use_sigmoid, iou_weighted)).elements()


def _deferred(pred: Tensor, target: Tensor, formula: _Varifocal) -> Elements:
    checks.tensor("target", target)
    if pred.shape != target.shape:
        hint = " Class indices with scores go to QualityFocalLoss." if target.shape == pred.shape[:-1] else ""
        raise InputError(f"expected target of the shape of pred {tuple(pred.shape)}; got {tuple(target.shape)}.{hint}")
    return Elements(formula, pred, target.to(pred.dtype))


class VariFocalLoss(BaseLoss):
    r"""Varifocal loss: positives weighted by their quality, negatives focused.

    .. math::
        l = \begin{cases} q \cdot \mathrm{BCE}(p, q) & q > 0 \\ \alpha\, p^\gamma\, \mathrm{BCE}(p, 0) & q = 0
        \end{cases}, \qquad \mathrm{BCE}(p, q) = -q \ln p - (1-q) \ln(1-p), \quad p = \sigma(x)

    Use when: dense detection where the classification score is to rank boxes by their IoU: the target of a positive is
    its IoU with the ground truth.

    Args:
        alpha: weight of the negatives ≥ 0, as in the paper. Default: 0.75.
        gamma: focusing of the negatives ≥ 0. Default: 2.
        use_sigmoid: pred holds logits (True) or probabilities. Default: True.
        iou_weighted: weight a positive by its score q; else by 1. Default: True.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,C), any shape.
        - target: scores in [0,1] of the shape of pred, 0 for negatives.
        - weight: the shape of pred or a leading-dims prefix of it: (N,) works.

    Returns:
        0-d for ``mean`` (Σ l / number of elements, or ``avg_factor``: the sum of the scores is usual) and ``sum``, the
        shape of pred for ``none``.

    Raises:
        InputError: unequal shapes. ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = VariFocalLoss(reduction="none")
        >>> loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.8, 0.0]]))
        tensor([[0.5545, 0.1300]])

    References:
        Zhang et al., VarifocalNet: An IoU-aware Dense Object Detector, CVPR 2021, arXiv 2008.13367.

    Notes:
        ``alpha`` weights the negatives, not the positives as in the focal loss. The gradient flows through the focusing
        factor, as in the authors' code. Also registered as ``VarifocalLoss``.
    """

    example = examples.SCORES.probabilities_if("use_sigmoid", False)

    def __init__(
        self,
        alpha: float = 0.75,
        gamma: float = 2.0,
        use_sigmoid: bool = True,
        iou_weighted: bool = True,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.alpha = checks.number(self, "alpha", alpha, low=0)
        self.gamma = checks.number(self, "gamma", gamma, low=0)
        self.use_sigmoid = checks.flag(self, "use_sigmoid", use_sigmoid)
        self.iou_weighted = checks.flag(self, "iou_weighted", iou_weighted)

    def _forward(self, pred: Tensor, target: Tensor) -> Elements:
        return _deferred(pred, target, _Varifocal(self.alpha, self.gamma, self.use_sigmoid, self.iou_weighted))
