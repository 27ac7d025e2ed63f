"""The Hausdorff distance loss by distance transforms (Karimi and Salcudean, IEEE TMI 2019, arXiv 1904.10030)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Unpack

import torch
from torch import Tensor

from losses_core import BaseLoss, LossOptions, Unreduced, examples
from losses_core.errors import ConfigError, InputError
from losses_core.utils import checks, host
from losses_core.utils.autograd import Function
from losses_core.utils.precision import full_precision
from losses_seg._activation import probabilities
from losses_seg._distance import is_spacing, squared_field
from losses_seg._targets import (
    ACTIVATIONS,
    Activation,
    Target,
    has_pixels,
    image_weight,
    included,
    is_class,
    over,
    read_target,
    safe_labels,
)

PredMask = Literal["argmax", "threshold"]
PRED_MASKS: tuple[PredMask, ...] = ("argmax", "threshold")


@full_precision
def hausdorff_loss(
    pred: Tensor,
    target: Tensor,
    *,
    alpha: float = 2.0,
    ignore_index: int = 255,
    include_background: bool = True,
    pred_mask: PredMask = "argmax",
    one_sided: bool = False,
    spacing: float | Sequence[float] | None = None,
    activation: Activation = "auto",
    target_dist: Tensor | None = None,
) -> Unreduced:
    """Hausdorff distance loss of each image and class, unreduced: see `HDLoss`.

    Args:
        pred: logits (N,C,*S).
        target: class indices (N,*S) or (N,1,*S); one-hot or soft (N,C,*S).
        alpha: exponent of the distances > 0.
        ignore_index: label whose pixels are left out.
        include_background: whether class 0 takes part.
        pred_mask: ``'argmax'``, or ``'threshold'`` p > 0.5.
        one_sided: the distance to the true boundary alone.
        spacing: size of a pixel along each axis, one number or one per axis.
        activation: ``'auto'``, ``'softmax'``, ``'sigmoid'`` or ``'none'``.
        target_dist: distances to the true boundary (N,C,*S), where they are known already.

    Returns:
        The loss (N,C), 0 where not counted; as normalizer, whether it is counted.
    """
    if pred_mask not in PRED_MASKS:
        raise InputError(f"pred_mask: expected one of {', '.join(map(repr, PRED_MASKS))}; got {pred_mask!r}.")
    goal = read_target(pred, target, ignore_index, activation)
    p = probabilities(pred, goal.ignored, activation)
    if target_dist is not None:
        checks.shape("target_dist", checks.tensor("target_dist", target_dist), tuple(pred.shape), reference="pred")
    with torch.no_grad():
        weight = _distances(p, goal, alpha, pred_mask, one_sided, spacing, target_dist)
    value = _WeightedError.apply(p, goal.values, weight, goal.index, goal.ignore_index) / _pixels(goal)
    counted = has_pixels(goal) & included(pred, "all", ignore_index, include_background)
    return Unreduced(value.where(counted, 0), counted)


def _pixels(goal: Target) -> Tensor | int:
    """How many pixels are not ignored, but 1 at least."""
    if goal.ignored is None:
        return goal.values.shape[1:].numel() if goal.index else goal.values.shape[2:].numel()
    return (~goal.ignored).flatten(2).sum(2).clamp(min=1)


def _distances(
    p: Tensor,
    goal: Target,
    alpha: float,
    pred_mask: PredMask,
    one_sided: bool,
    spacing: float | Sequence[float] | None,
    target_dist: Tensor | None,
) -> Tensor:
    """d_g^α + d_p^α, (N,C,*S), 0 where ignored."""
    classes = p.shape[1]
    masks = []
    if target_dist is None:
        if not goal.index:
            true = goal.values > 0.5
        elif torch.compiler.is_compiling():
            true = is_class(goal.values, classes)
        else:
            index = safe_labels(goal.values, goal.ignore_index)
            true = torch.zeros_like(p, dtype=torch.bool).scatter_(1, index, True)
        masks.append(true)
    if not one_sided:
        by_class = pred_mask == "argmax" and classes > 1
        masks.append(is_class(p.argmax(1), classes) if by_class else p > 0.5)
    weight = torch.zeros_like(p) if target_dist is None else target_dist.detach().to(p.dtype).pow(alpha)
    if masks:
        counted = None if goal.ignored is None else torch.cat([(~goal.ignored).expand_as(p)] * len(masks))
        fields = squared_field(torch.cat(masks), counted, spacing, p.dtype)
        fields = fields if alpha == 2 else fields.pow(alpha / 2)
        for field in fields.chunk(len(masks)):
            weight = weight + field
    return weight if goal.ignored is None else host.zero_where_(weight, goal.ignored)


def _error(p: Tensor, values: Tensor, index: bool, ignore_index: int) -> Tensor:
    """p - g"""
    if not index:
        return p - values.to(p.dtype)
    if torch.compiler.is_compiling():
        return torch.where(is_class(values, p.shape[1]), p - 1, p)
    labels = safe_labels(values, ignore_index)
    return p.scatter_add(1, labels, p.new_full((), -1).expand(labels.shape))


class _WeightedError(Function):
    """Σ w (p-g)² per image and class; keeps p, w and the target."""

    @staticmethod
    def forward(p: Tensor, values: Tensor, weight: Tensor, index: bool, ignore_index: int) -> Tensor:
        return _error(p, values, index, ignore_index).square().mul_(weight).flatten(2).sum(2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        p, values, weight, ctx.index, ctx.ignore_index = inputs
        ctx.save_for_backward(p, values, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        p, values, weight = ctx.saved_tensors
        slope = _error(p, values, ctx.index, ctx.ignore_index) * weight
        return slope * over(2 * grad, p), None, None, None, None


class HDLoss(BaseLoss):
    r"""Hausdorff distance loss: squared errors, each weighted by how far it lies from the contours.

    .. math::
        L_{nc} = \frac{1}{|\Omega_n|} \sum_{i \in \Omega_n} (p_i - g_i)^2 \left( d_g(i)^\alpha + d_p(i)^\alpha \right)

    over the pixels that are not ignored, with d the Euclidean distance to the nearest pixel on the other side of the
    true mask (d_g) or of the predicted one (d_p). No gradient passes through the distances.

    Use when: outliers far from the contour must go, in medical images above all; with Dice, as its values are large
    (squared pixels) and say nothing about overlap.

    Args:
        alpha: exponent of the distances > 0. Default: 2.
        ignore_index: label whose pixels carry no error, are no one's nearest pixel and get no gradient; in [0,C) it
            takes that class out too. Default: 255. May also be given per call.
        include_background: whether class 0 is averaged too (one channel is always averaged). Default: True.
        pred_mask: the predicted mask: ``'argmax'``, or ``'threshold'`` p > 0.5, which one channel always uses.
            Default: ``'argmax'``.
        one_sided: d_g alone, the half that can be computed ahead. Default: False.
        spacing: size of a pixel along each spatial axis, a number or a list, for distances in millimetres.
            Default: None, 1.
        activation: ``'auto'`` (softmax for several channels, sigmoid for one), ``'softmax'``, ``'sigmoid'``, or
            ``'none'`` for a pred that holds probabilities. Default: ``'auto'``.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,C,*S), one or more spatial dims.
        - target: integer (N,*S) or (N,1,*S), in [0,C) or ``ignore_index``; or one-hot or soft (N,C,*S), with the mask
          where it is above 0.5. For one channel the values 0, 1 and ``ignore_index``, or soft.
        - weight: (N,).
        - target_dist (a keyword of the call): d_g (N,C,*S), computed ahead.

    Returns:
        0-d for ``mean`` (over the counted pairs of image and class) and ``sum``, (N,C) for ``none``.

    Raises:
        InputError: a shape or a dtype that does not fit, a spacing for another number of dims.
        ConfigError: an option outside its range.
        RuntimeError: on the CPU, a label outside [0,C) that is not ``ignore_index``.

    Example:
        >>> import torch
        >>> loss = HDLoss()
        >>> pred = torch.tensor([[[-9.0, 9.0, -9.0, -9.0, -9.0, 9.0]]])
        >>> loss(pred, torch.tensor([[0, 1, 0, 0, 0, 0]]))
        tensor(2.8326)

    References:
        Karimi and Salcudean, Reducing the Hausdorff Distance in Medical Image Segmentation with Convolutional Neural
        Networks, IEEE TMI 2019, arXiv 1904.10030, the form with distance transforms.

    Notes:
        A mask that is true, or false, everywhere has no contour: its distances are 0. On the CPU the distances are
        found by loops that stop early, and so read values; compiled and on other devices nothing is read. The result
        equals that of implementations that call scipy where no mask is full.
    """

    example = examples.PIXELS.probabilities_if("activation", "none")

    def __init__(
        self,
        alpha: float = 2.0,
        ignore_index: int = 255,
        include_background: bool = True,
        pred_mask: PredMask = "argmax",
        one_sided: bool = False,
        spacing: float | Sequence[float] | None = None,
        activation: Activation = "auto",
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.alpha = checks.number(self, "alpha", alpha, above=0)
        self.ignore_index = checks.number(self, "ignore_index", ignore_index, integer=True)
        self.include_background = checks.flag(self, "include_background", include_background)
        self.pred_mask = checks.choice(self, "pred_mask", pred_mask, PRED_MASKS)
        self.one_sided = checks.flag(self, "one_sided", one_sided)
        if spacing is not None and not is_spacing(spacing):
            raise ConfigError(f"HDLoss: spacing: expected a number > 0, or a list of them; got {spacing!r}.")
        self.spacing = spacing
        self.activation = checks.choice(self, "activation", activation, ACTIVATIONS)

    def _map_weight(self, weight: Tensor, pred: Tensor, target: Tensor) -> Tensor:
        return image_weight(weight, pred, per_image=True)

    def _forward(
        self, pred: Tensor, target: Tensor, *, ignore_index: int, target_dist: Tensor | None = None
    ) -> Unreduced:
        return hausdorff_loss(
            pred,
            target,
            alpha=self.alpha,
            ignore_index=ignore_index,
            include_background=self.include_background,
            pred_mask=self.pred_mask,
            one_sided=self.one_sided,
            spacing=self.spacing,
            activation=self.activation,
            target_dist=target_dist,
        )
