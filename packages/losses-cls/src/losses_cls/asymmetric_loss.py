"""Asymmetric losses for multi-label classification (Ridnik et al., ICCV 2021, arXiv 2009.14119)."""

from __future__ import annotations

from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_cls._targets import element_normalizer, ignored_label, prepare_elements
from losses_core import BaseLoss, LossOptions, Unreduced, examples
from losses_core.kernels import definition
from losses_core.utils import checks
from losses_core.utils.stable import fill_ignored, power


@definition(layout="channels", prepare=prepare_elements, normalizer=element_normalizer)
def asymmetric_loss(
    pred: Tensor,
    target: Tensor,
    *,
    gamma_neg: float = 4,
    gamma_pos: float = 1,
    clip: float = 0.05,
    disable_torch_grad_focal: bool = True,
    ignore_index: int | None = -100,
) -> Unreduced:
    """Asymmetric loss of each element, unreduced: see `AsymmetricLoss`.

    Args:
        pred: logits, any shape.
        target: multi-hot of the shape of ``pred``.
        gamma_neg: focusing of the negatives ≥ 0.
        gamma_pos: focusing of the positives ≥ 0.
        clip: probability margin m of the negatives in [0, 1).
        disable_torch_grad_focal: the focusing factors carry no gradient.
        ignore_index: elements of the target equal to it are ignored; None: none is.

    Returns:
        ``Unreduced``: a value of the shape of ``pred``, and a normalizer of 1, 0 where ignored.
    """
    x, t, ignored = fill_ignored(pred, target.to(pred.dtype), ignore_index)
    n = torch.sigmoid(-x)
    rest = (n + clip).clamp(max=1)  # 1 - p_m
    p_m, log_rest = (1 - rest, rest.log()) if clip else (torch.sigmoid(x), -F.softplus(x))
    focus_pos, focus_neg = power(n, gamma_pos), power(p_m, gamma_neg)
    if disable_torch_grad_focal:
        focus_pos, focus_neg = focus_pos.detach(), focus_neg.detach()
    value = t * focus_pos * F.softplus(-x) - (1 - t) * focus_neg * log_rest
    return value if ignored is None else value.masked_fill(ignored, 0)  # type: ignore[return-value]


class AsymmetricLoss(BaseLoss):
    r"""Asymmetric loss: positives and negatives of a multi-label target are focused differently.

    .. math::
        l = -\left[ y\,(1-p)^{\gamma_+} \log p + (1-y)\, p_m^{\gamma_-} \log(1-p_m) \right], \qquad
        p = \sigma(x),\quad p_m = \max(p - m, 0)

    Use when: multi-label classification where each image has few of many labels.

    Args:
        gamma_neg: focusing of the negatives ≥ 0. Default: 4.
        gamma_pos: focusing of the positives ≥ 0. Default: 1.
        clip: probability margin m in [0, 1): the loss of a negative below it is 0. Default: 0.05.
        disable_torch_grad_focal: the focusing factors carry no gradient, as in the authors' code. Default: True.
        ignore_index: elements of the target equal to it are ignored; None: none is. Default: -100. May also be given
            per call.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,C,*S), any shape.
        - target: multi-hot of the shape of pred (float, int or bool).
        - weight: of the shape of pred or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` (Σ l / number of elements not ignored) and ``sum``, the shape of pred for ``none``.

    Raises:
        InputError: a shape that does not fit; class indices, with a hint; on the CPU, a target outside [0,1] that is
            not ``ignore_index``.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = AsymmetricLoss(reduction="sum")
        >>> loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[1, 0]]))
        tensor(0.3711)

    References:
        Ridnik et al., Asymmetric Loss For Multi-Label Classification, ICCV 2021, arXiv 2009.14119.

    Notes:
        The paper's recipe is ``reduction='sum'``; the default is ``mean``, as in every loss. Value and gradient equal
        the authors' code in float32 where \|x\| < 18. There is no ``eps``: the logarithms are computed from logits, so
        the hardest positives keep their gradient (the authors' clamp sets it to 0), and grad mode is never changed.
    """

    function = asymmetric_loss
    example = examples.BINARY

    def __init__(
        self,
        gamma_neg: float = 4,
        gamma_pos: float = 1,
        clip: float = 0.05,
        disable_torch_grad_focal: bool = True,
        ignore_index: int | None = -100,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.gamma_neg = checks.number(self, "gamma_neg", gamma_neg, low=0)
        self.gamma_pos = checks.number(self, "gamma_pos", gamma_pos, low=0)
        self.clip = checks.number(self, "clip", clip, low=0, below=1)
        self.disable_torch_grad_focal = checks.flag(self, "disable_torch_grad_focal", disable_torch_grad_focal)
        self.ignore_index = ignored_label(self, ignore_index)


class AsymmetricLossOptimized(AsymmetricLoss):
    r"""`AsymmetricLoss` under the name of the authors' memory-saving class; the two are the same here.

    .. math::
        l = -\left[ y\,(1-p)^{\gamma_+} \log p + (1-y)\, p_m^{\gamma_-} \log(1-p_m) \right], \qquad
        p = \sigma(x),\quad p_m = \max(p - m, 0)

    Use when: as `AsymmetricLoss`; a config that names this class runs unchanged.

    Args:
        gamma_neg: focusing of the negatives ≥ 0. Default: 4.
        gamma_pos: focusing of the positives ≥ 0. Default: 1.
        clip: probability margin m in [0, 1). Default: 0.05.
        disable_torch_grad_focal: the focusing factors carry no gradient. Default: True.
        ignore_index: elements of the target equal to it are ignored; None: none is. Default: -100. May also be given
            per call.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,C,*S), any shape.
        - target: multi-hot of the shape of pred (float, int or bool).
        - weight: of the shape of pred or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` and ``sum``, the shape of pred for ``none``.

    Raises:
        InputError: as `AsymmetricLoss`.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = AsymmetricLossOptimized(reduction="sum")
        >>> loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[1, 0]]))
        tensor(0.3711)

    References:
        Ridnik et al., Asymmetric Loss For Multi-Label Classification, ICCV 2021, arXiv 2009.14119.

    Notes:
        The authors' class of this name keeps eleven tensors of the size of pred, more than their plain one. This one
        keeps the gradient, beside pred and target.
    """
