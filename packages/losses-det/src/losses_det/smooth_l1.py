"""Losses of coordinates: L1, smooth L1 (Girshick 2015) and balanced L1 (Pang et al. 2019)."""

from __future__ import annotations

import math
from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core import BaseLoss, LossOptions, examples
from losses_core.errors import ConfigError, InputError
from losses_core.kernels import definition
from losses_core.utils import checks
from losses_det._geometry import every_pair


def _prepare(pred: Tensor, target: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    checks.tensor("pred", pred)
    checks.tensor("target", target)
    if options.pop("pairwise", False):
        pred, target = every_pair(pred, target)
        options["pairwise"] = True
    else:
        checks.same_shape(pred, target)
    if options.get("beta", 0) < 0:
        raise InputError(f"beta: expected a number >= 0; got {options['beta']}.")
    return pred, target if target.is_floating_point() else target.to(pred.dtype), options


def _l1_mean(pred: Tensor, target: Tensor) -> Tensor:
    return F.l1_loss(pred, target)


_FEW = 1 << 14


def _smooth_l1_mean(pred: Tensor, target: Tensor, beta: float) -> Tensor:
    if pred.numel() <= _FEW:
        return F.smooth_l1_loss(pred, target, beta=beta)
    # torch's mean is a view of a tensor of the size of pred, which a logged value would keep alive
    return F.smooth_l1_loss(pred, target, beta=beta, reduction="sum") / pred.numel()


@definition(layout="elements", prepare=_prepare, mean=_l1_mean)
def l1_loss(pred: Tensor, target: Tensor, *, pairwise: bool = False) -> Tensor:
    """|pred - target| of each element, unreduced: see `L1Loss`.

    Args:
        pred: any shape.
        target: of the shape of ``pred``.
        pairwise: every row of ``pred``, (…,Q,4), with every row of ``target``, (…,M,4), summed over the last axis.

    Returns:
        The shape of ``pred``; (…,Q,M) with ``pairwise``.

    Example:
        >>> import torch
        >>> l1_loss(torch.tensor([[0.0, 1.0], [2.0, 2.0]]), torch.tensor([[0.0, 0.0]]), pairwise=True)
        tensor([[1.],
                [4.]])
    """
    if pairwise:
        pred, target = torch.broadcast_tensors(pred, target)
    value = F.l1_loss(pred, target, reduction="none")
    return value.sum(-1) if pairwise else value


@definition(layout="elements", prepare=_prepare, mean=_smooth_l1_mean, large_mean=True)
def smooth_l1_loss(pred: Tensor, target: Tensor, *, beta: float = 1.0) -> Tensor:
    """Smooth L1 loss of each element, unreduced: see `SmoothL1Loss`.

    Args:
        pred: any shape.
        target: of the shape of ``pred``.
        beta: where the quadratic part ends, ≥ 0.

    Returns:
        The shape of ``pred``.
    """
    return F.smooth_l1_loss(pred, target, beta=beta, reduction="none")


@definition(layout="elements", prepare=_prepare)
def balanced_l1_loss(
    pred: Tensor, target: Tensor, *, alpha: float = 0.5, gamma: float = 1.5, beta: float = 1.0
) -> Tensor:
    """Balanced L1 loss of each element, unreduced: see `BalancedL1Loss`.

    Args:
        pred: any shape.
        target: of the shape of ``pred``.
        alpha: > 0; the smaller, the larger the gradient of accurate samples.
        gamma: gradient beyond ``beta``, > 0.
        beta: where the linear part begins, > 0.

    Returns:
        The shape of ``pred``.
    """
    b = math.expm1(gamma / alpha)
    distance = (pred - target).abs()
    near = distance.clamp(max=beta)
    curve = alpha / b * (b * near + beta) * torch.log1p(b * near / beta) - alpha * near
    return curve + gamma * (distance - near)


class SmoothL1Loss(BaseLoss):
    r"""Smooth L1 loss: quadratic near 0, linear beyond.

    .. math::
        l = \begin{cases} x^2 / (2\beta) & |x| < \beta \\ |x| - \beta/2 & \text{otherwise} \end{cases},
        \qquad x = \text{pred} - \text{target}

    Use when: regressing box offsets that may hold outliers, as the two-stage detectors do.

    Args:
        beta: where the quadratic part ends, in the unit of pred, ≥ 0; 0 gives L1. Default: 1.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: any shape, (N,4) for boxes.
        - target: the shape of pred.
        - weight: the shape of pred or a leading-dims prefix of it: (N,) or (N,4) for boxes.

    Returns:
        0-d for ``mean`` (Σ l / number of elements, or ``avg_factor``) and ``sum``, the shape of pred for ``none``.

    Raises:
        InputError: unequal shapes.
        ConfigError: a negative ``beta``.

    Example:
        >>> import torch
        >>> loss = SmoothL1Loss(reduction="none")
        >>> loss(torch.tensor([0.5, 3.0]), torch.zeros(2))
        tensor([0.1250, 2.5000])

    References:
        Girshick, Fast R-CNN, ICCV 2015, arXiv 1504.08083.

    Notes:
        Equals ``torch.nn.SmoothL1Loss``, which is ``HuberLoss`` divided by beta. The mean is over coordinates: a head
        that counts boxes gives ``avg_factor``.
    """

    example = examples.VALUES
    function = smooth_l1_loss

    def __init__(self, beta: float = 1.0, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.beta = checks.number(self, "beta", beta, low=0)


class L1Loss(BaseLoss):
    r"""Absolute difference.

    .. math:: l = |\text{pred} - \text{target}|

    Use when: regressing normalised box coordinates, as the transformer detectors do beside GIoU.

    Args:
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: any shape, (N,4) for boxes.
        - target: the shape of pred.
        - weight: the shape of pred or a leading-dims prefix of it: (N,) or (N,4) for boxes.

    Returns:
        0-d for ``mean`` (Σ l / number of elements, or ``avg_factor``) and ``sum``, the shape of pred for ``none``.

    Raises:
        InputError: unequal shapes.

    Example:
        >>> import torch
        >>> loss = L1Loss(reduction="sum")
        >>> loss(torch.tensor([[0.5, 3.0]]), torch.zeros(1, 2), weight=torch.tensor([2.0]))
        tensor(7.)

    References:
        Carion et al., End-to-End Object Detection with Transformers, ECCV 2020, arXiv 2005.12872 (as a box loss).

    Notes:
        Equals ``torch.nn.L1Loss``; the gradient at equal values is 0.
    """

    example = examples.VALUES
    function = l1_loss
    internal_options = ("pairwise",)  # a loss has a target for each prediction


class BalancedL1Loss(BaseLoss):
    r"""Balanced L1 loss: accurate samples get a larger share of the gradient, outliers a bounded one.

    .. math::
        l = \begin{cases}
        \frac{\alpha}{b} (b|x| + \beta) \ln\!\left(1 + \frac{b|x|}{\beta}\right) - \alpha|x| & |x| < \beta \\
        \gamma|x| + \frac{\gamma\beta}{b} - \alpha\beta & \text{otherwise}
        \end{cases}, \qquad b = e^{\gamma/\alpha} - 1

    Use when: regressing box offsets where easy samples are drowned by outliers (Libra R-CNN).

    Args:
        alpha: the smaller, the larger the gradient of accurate samples, > 0. Default: 0.5.
        gamma: gradient beyond ``beta``, > 0 and at most 80 alpha. Default: 1.5.
        beta: where the linear part begins, in the unit of pred, > 0. Default: 1.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: any shape, (N,4) for boxes.
        - target: the shape of pred.
        - weight: the shape of pred or a leading-dims prefix of it: (N,) or (N,4) for boxes.

    Returns:
        0-d for ``mean`` (Σ l / number of elements, or ``avg_factor``) and ``sum``, the shape of pred for ``none``.

    Raises:
        InputError: unequal shapes.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = BalancedL1Loss(reduction="none")
        >>> loss(torch.tensor([0.0, 0.5, 3.0]), torch.zeros(3))
        tensor([0.0000, 0.4006, 4.0786])

    References:
        Pang et al., Libra R-CNN: Towards Balanced Learning for Object Detection, CVPR 2019, arXiv 1904.02701.

    Notes:
        Equals the paper at beta = 1. For other values mmdet's formula has a jump in the gradient at beta, and one other
        than 0 at 0; in this library value and gradient are continuous, and the gradient is 0 at 0, for every beta.
    """

    example = examples.VALUES
    function = balanced_l1_loss

    def __init__(
        self, alpha: float = 0.5, gamma: float = 1.5, beta: float = 1.0, **options: Unpack[LossOptions]
    ) -> None:
        super().__init__(**options)
        self.alpha = checks.number(self, "alpha", alpha, above=0)
        self.gamma = checks.number(self, "gamma", gamma, above=0)
        self.beta = checks.number(self, "beta", beta, above=0)
        if gamma > 80 * alpha:  # exp of more is infinite in float32
            raise ConfigError(f"BalancedL1Loss: gamma: expected at most 80 alpha = {80 * alpha:g}; got {gamma!r}.")
