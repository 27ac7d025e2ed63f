"""Varifocal loss for IoU-aware classification scores (Zhang et al., CVPR 2021, arXiv 2008.13367)."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from losses_core import BaseLoss, LossOptions, examples
from losses_core.errors import InputError
from losses_core.kernels import definition
from losses_core.utils import checks
from losses_core.utils.value_checks import check_probabilities
from losses_det._quality import distance_and_entropy, focused


def _prepare(pred: Tensor, target: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    checks.tensor("pred", pred)
    checks.tensor("target", target)
    if pred.shape != target.shape:
        hint = " Class indices with scores go to QualityFocalLoss." if target.shape == pred.shape[:-1] else ""
        raise InputError(f"expected target of the shape of pred {tuple(pred.shape)}; got {tuple(target.shape)}.{hint}")
    check_probabilities(target)
    if not options["use_sigmoid"]:
        check_probabilities(pred, name="pred", cure="Does pred hold logits? Then set use_sigmoid=True.")
    return pred, target if target.is_floating_point() else target.to(pred.dtype), options


@definition(layout="elements", prepare=_prepare)
def varifocal_loss(
    pred: Tensor,
    target: Tensor,
    *,
    alpha: float = 0.75,
    gamma: float = 2.0,
    use_sigmoid: bool = True,
    iou_weighted: bool = True,
    detach_weight: bool = False,
) -> Tensor:
    """Varifocal loss of each element, unreduced: see `VariFocalLoss`.

    Args:
        pred: logits, or probabilities with ``use_sigmoid=False``; any shape.
        target: IoU-aware scores in [0,1] of the shape of ``pred``, 0 for negatives.
        alpha: weight of the negatives ≥ 0.
        gamma: focusing of the negatives ≥ 0.
        use_sigmoid: what ``pred`` holds.
        iou_weighted: weight a positive by its score, not by 1.
        detach_weight: the focusing factor is a constant in the gradient.

    Returns:
        The shape of ``pred``.
    """
    distance, entropy = distance_and_entropy(pred, target, use_sigmoid)
    positive = target if iou_weighted else torch.ones_like(target)
    focus = focused(distance.detach() if detach_weight else distance, gamma)
    return torch.where(target > 0, positive, alpha * focus) * entropy


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
        detach_weight: let no gradient flow through :math:`p^\gamma`, as in RT-DETR and D-FINE. Default: False.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,C), any shape.
        - target: scores in [0,1] of the shape of pred, 0 for negatives.
        - weight: the shape of pred or a leading-dims prefix of it: (N,) works.

    Returns:
        0-d for ``mean`` (Σ l / number of elements, or ``avg_factor``: the sum of the scores is usual) and ``sum``, the
        shape of pred for ``none``.

    Raises:
        InputError: unequal shapes.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = VariFocalLoss(reduction="none")
        >>> loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.8, 0.0]]))
        tensor([[0.5545, 0.1300]])

    References:
        Zhang et al., VarifocalNet: An IoU-aware Dense Object Detector, CVPR 2021, arXiv 2008.13367.

    Notes:
        ``alpha`` weights the negatives, not the positives as in the focal loss. The gradient flows through the focusing
        factor, as in the authors' code; with ``detach_weight`` it does not. Also registered as ``VarifocalLoss``.
    """

    example = examples.SCORES.probabilities_if("use_sigmoid", False)
    function = varifocal_loss

    def __init__(
        self,
        alpha: float = 0.75,
        gamma: float = 2.0,
        use_sigmoid: bool = True,
        iou_weighted: bool = True,
        detach_weight: bool = False,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.alpha = checks.number(self, "alpha", alpha, low=0)
        self.gamma = checks.number(self, "gamma", gamma, low=0)
        self.use_sigmoid = checks.flag(self, "use_sigmoid", use_sigmoid)
        self.iou_weighted = checks.flag(self, "iou_weighted", iou_weighted)
        self.detach_weight = checks.flag(self, "detach_weight", detach_weight)


VarifocalLoss = VariFocalLoss
