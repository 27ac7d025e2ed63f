"""Asymmetric losses for multi-label classification (Ridnik et al., ICCV 2021, arXiv 2009.14119)."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_cls._targets import like_pred
from losses_core import BaseLoss, LossOptions, Unreduced, examples
from losses_core.utils import checks, temporaries
from losses_core.utils.elementwise import Elements, Evaluated, power
from losses_core.utils.precision import full_precision


@dataclasses.dataclass(frozen=True)
class _Asymmetric:
    """-[ y (1-p)^{γ+} log p + (1-y) p_m^{γ-} log(1-p_m) ] with p_m = max(p-m, 0)."""

    gamma_neg: float
    gamma_pos: float
    clip: float
    frozen_focus: bool
    ignore_index: int | None
    index: ClassVar[bool] = False

    def __call__(self, x: Tensor, t: Tensor) -> Evaluated:
        n = torch.sigmoid(-x)
        # 1 - p_m, at most 1
        rest = temporaries.clamp(n + self.clip, high=1) if self.clip else n
        p_m = torch.rsub(rest, 1) if self.clip else torch.sigmoid(x)
        positive_focus, negative_focus = power(n, self.gamma_pos), power(p_m, self.gamma_neg)

        def log_rest() -> Tensor:
            return rest.log() if self.clip else F.logsigmoid(-x)

        def value() -> Tensor:
            focus = positive_focus, negative_focus
            if self.frozen_focus:
                focus = positive_focus.detach(), negative_focus.detach()
            positive = temporaries.mul(temporaries.mul(F.softplus(-x), focus[0]), t)
            return temporaries.addcmul(positive, temporaries.mul(t - 1, focus[1]), log_rest())

        def slope() -> Tensor:
            positive, negative = -n, p_m
            if self.clip:
                # d(-log(1-p_m))/dx = p n / (1-p_m), and 0 while p is below the margin, where the focus is 0 or 1
                negative = torch.rsub(n, 1) * n / rest
                if self.gamma_neg == 0:
                    negative = torch.where(p_m > 0, negative, 0)
            if not self.frozen_focus:
                p = torch.sigmoid(x)
                positive = positive + self.gamma_pos * p * F.logsigmoid(x)
                # -log(1-p_m)/p_m → 1 as p_m → 0, so the power keeps its exponent γ-
                ratio = -log_rest() / p_m.clamp(min=torch.finfo(p_m.dtype).tiny)
                negative = negative + torch.where(p_m > 0, self.gamma_neg * p * n * ratio, 0)
            positive = temporaries.mul(positive, positive_focus) * t
            return temporaries.addcmul(positive, temporaries.mul(torch.rsub(t, 1), negative_focus), negative)

        return Evaluated(value, slope)


@full_precision
def asymmetric_loss(
    pred: Tensor,
    target: Tensor,
    *,
    gamma_neg: float = 4,
    gamma_pos: float = 1,
    clip: float = 0.05,
    disable_torch_grad_focal: bool = True,
    ignore_index: int | None = -100,
    optimized: bool = False,
) -> Tensor:
    """Asymmetric loss of each element, unreduced: see `AsymmetricLoss`.

    Args:
        pred: logits, any shape.
        target: multi-hot of the shape of ``pred``.
        gamma_neg: focusing of the negatives ≥ 0.
        gamma_pos: focusing of the positives ≥ 0.
        clip: probability margin m of the negatives in [0, 1).
        disable_torch_grad_focal: the focusing factors carry no gradient.
        ignore_index: elements equal to it have loss and gradient 0.
        optimized: keep only pred and target for the backward.

    Returns:
        The shape of ``pred``.
    """
    formula = _Asymmetric(gamma_neg, gamma_pos, clip, disable_torch_grad_focal, ignore_index)
    elements = Elements(formula, pred, like_pred(pred, target))
    return elements.elements() if optimized else elements.recorded()


class AsymmetricLoss(BaseLoss):
    r"""Asymmetric loss: positives and negatives of a multi-label target are focused differently.

    .. math::
        l = -\left[ y\,(1-p)^{\gamma_+} \log p + (1-y)\, p_m^{\gamma_-} \log(1-p_m) \right], \qquad
        p = \sigma(x),\quad p_m = \max(p - m, 0)

    Use when: multi-label classification where each image has few of many labels.

    Args:
        gamma_neg: focusing of the negatives ≥ 0. Default: 4.
        gamma_pos: focusing of the positives ≥ 0. Default: 1.
        clip: probability margin m in [0, 1): negatives below it cost nothing. Default: 0.05.
        disable_torch_grad_focal: the focusing factors carry no gradient, as in the authors' code. Default: True.
        ignore_index: elements of the target equal to it cost nothing and get no gradient. Default: -100.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,C,*S), any shape.
        - target: multi-hot of the shape of pred (float, int or bool).
        - weight: of the shape of pred or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` (Σ l / number of elements not ignored) and ``sum``, the shape of pred for ``none``.

    Raises:
        InputError: a shape that does not fit; class indices, with a hint.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = AsymmetricLoss(reduction="sum")
        >>> loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[1, 0]]))
        tensor(0.3711)

    References:
        Ridnik et al., Asymmetric Loss For Multi-Label Classification, ICCV 2021, arXiv 2009.14119.

    Notes:
        The paper's recipe is ``reduction='sum'``; the default here is ``mean``, as in every loss. Value and gradient
        equal the authors' code in float32 where \|x\| < 18. There is no ``eps``: the logarithms are computed from
        logits, so the hardest positives keep their gradient (the authors' clamp sets it to 0), and grad mode is never
        changed. `AsymmetricLossOptimized` gives the same numbers with a fraction of the memory.
    """

    example = examples.BINARY
    _optimized = False

    def __init__(
        self,
        gamma_neg: float = 4,
        gamma_pos: float = 1,
        clip: float = 0.05,
        disable_torch_grad_focal: bool = True,
        ignore_index: int = -100,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.gamma_neg = checks.number(self, "gamma_neg", gamma_neg, low=0)
        self.gamma_pos = checks.number(self, "gamma_pos", gamma_pos, low=0)
        self.clip = checks.number(self, "clip", clip, low=0, below=1)
        self.disable_torch_grad_focal = checks.flag(self, "disable_torch_grad_focal", disable_torch_grad_focal)
        self.ignore_index = checks.number(self, "ignore_index", ignore_index, integer=True)

    def _forward(self, pred: Tensor, target: Tensor, *, ignore_index: int) -> Unreduced | Elements:
        formula = _Asymmetric(self.gamma_neg, self.gamma_pos, self.clip, self.disable_torch_grad_focal, ignore_index)
        elements = Elements(formula, pred, like_pred(pred, target))
        return elements if self._optimized else Unreduced(elements.recorded(), elements.mask())


class AsymmetricLossOptimized(AsymmetricLoss):
    r"""`AsymmetricLoss` that keeps only pred and target for its backward, and is faster.

    .. math::
        l = -\left[ y\,(1-p)^{\gamma_+} \log p + (1-y)\, p_m^{\gamma_-} \log(1-p_m) \right], \qquad
        p = \sigma(x),\quad p_m = \max(p - m, 0)

    Use when: as `AsymmetricLoss`, with many classes; there is no reason to prefer the plain one but comparison.

    Args:
        gamma_neg: focusing of the negatives ≥ 0. Default: 4.
        gamma_pos: focusing of the positives ≥ 0. Default: 1.
        clip: probability margin m in [0, 1). Default: 0.05.
        disable_torch_grad_focal: the focusing factors carry no gradient. Default: True.
        ignore_index: elements of the target equal to it cost nothing and get no gradient. Default: -100.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,C,*S), any shape.
        - target: multi-hot of the shape of pred (float, int or bool).
        - weight: of the shape of pred or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` and ``sum``, the shape of pred for ``none``; the numbers of `AsymmetricLoss`.

    Raises:
        InputError: a shape that does not fit; class indices, with a hint.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = AsymmetricLossOptimized(reduction="sum")
        >>> loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[1, 0]]))
        tensor(0.3711)

    References:
        Ridnik et al., Asymmetric Loss For Multi-Label Classification, ICCV 2021, arXiv 2009.14119.

    Notes:
        The authors' class of this name keeps eleven tensors of the size of pred, more than their plain one.
    """

    _optimized = True
