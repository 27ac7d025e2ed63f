"""The generalised Dice loss (Sudre et al., DLMIA 2017, arXiv 1707.03237)."""

from __future__ import annotations

from typing import Any, Literal, Unpack

import torch
from torch import Tensor

from losses_core import LossOptions, Unreduced, examples
from losses_core.errors import InputError
from losses_core.kernels import definition
from losses_core.utils import checks
from losses_seg._region import positive, prepare_region, region
from losses_seg._sync import BatchReducedLoss, SyncGroup
from losses_seg._targets import ACTIVATIONS, Activation, selected_classes

WeightType = Literal["square", "simple", "uniform"]
Absent = Literal["max", "zero"]
_POWERS: dict[WeightType, int] = {"square": 2, "simple": 1, "uniform": 0}


def _prepare(pred: Any, target: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    for name, choices in (("weight_type", tuple(_POWERS)), ("absent", ("max", "zero"))):
        if options[name] not in choices:
            raise InputError(f"{name}: expected one of {', '.join(map(repr, choices))}; got {options[name]!r}.")
    return prepare_region(pred, target, **options)


@definition(prepare=_prepare, cast=False)
def generalized_dice_loss(
    pred: Tensor,
    target: Tensor,
    *,
    smooth: float = 1.0,
    ignore_index: int | None = 255,
    weight_type: WeightType = "square",
    absent: Absent = "max",
    per_image: bool = True,
    include_background: bool = True,
    activation: Activation = "auto",
    group: SyncGroup | None = None,
) -> Unreduced:
    """Compute the generalised Dice loss, unreduced: see `GeneralizedDiceLoss`.

    Args:
        pred: logits (N,C,*S).
        target: class indices (N,*S) or (N,1,*S); one-hot or soft (N,C,*S).
        smooth: s ≥ 0, in pixels of the rarest class.
        ignore_index: label of the pixels that are excluded from every sum; None: no pixel is.
        weight_type: ``'square'`` 1/A², ``'simple'`` 1/A or ``'uniform'`` 1, with A the area of a class.
        absent: weight of a class that does not occur: ``'max'`` that of the rarest one, ``'zero'`` none.
        per_image: sums per image, or over the batch.
        include_background: whether class 0 takes part.
        activation: ``'auto'``, ``'softmax'``, ``'sigmoid'`` or ``'none'``.
        group: the processes that hold the batch together; given by the class under ``sync_dist``.

    Returns:
        The loss (N,), or 0-d over the batch; as normalizer, whether there is a pixel that is not ignored.

    Raises:
        InputError: a shape, a dtype or an option that does not fit; a label outside [0,C) that is not ignored.
    """
    one_channel = pred.shape[1] == 1
    sums = region(
        pred,
        target,
        ignore_index=ignore_index,
        activation=activation,
        complement=one_channel,
        per_image=per_image,
        group=group,
    )
    # of two channels built from one, ignore_index excludes none: there it is a value
    excluded = None if one_channel else ignore_index
    classes = selected_classes(sums.target.shape[-1], pred.device, "all", excluded, include_background)
    weight = _class_weight(sums.target, classes, _POWERS[weight_type], absent)
    total = (weight * (sums.pred + sums.target)).sum(-1)
    numerator = total.sub((weight * sums.intersection).sum(-1), alpha=2)  # of 1 - (2 Σ w I + s) / (total + s)
    value = numerator / positive(total, smooth)
    normalizer = None if ignore_index is None else (sums.pixels > 0).any(-1)
    return Unreduced(value, normalizer, already_global=group is not None)


def _class_weight(area: Tensor, classes: Tensor | None, power: int, absent: Absent) -> Tensor:
    """A^-power, scaled so that the rarest class has weight 1: then ``smooth`` is in pixels at every resolution."""
    missing = area <= 0 if classes is None else ~classes | (area <= 0)
    rarest = area.masked_fill(missing, torch.inf).amin(-1, keepdim=True)
    weight = (rarest / area.masked_fill(missing, 1)).pow(power).masked_fill(missing, 1 if absent == "max" else 0)
    return weight if classes is None else weight.where(classes, 0)


class GeneralizedDiceLoss(BatchReducedLoss):
    r"""Generalised Dice loss: one overlap over all classes, each weighted by the inverse of its area.

    .. math::
        L = 1 - \frac{2 \sum_c w_c I_c + s}{\sum_c w_c (P_c + A_c) + s}, \qquad w_c \propto \frac{1}{A_c^2}, \qquad
        I_c = \sum_i p_{ci}\, g_{ci},\; P_c = \sum_i p_{ci},\; A_c = \sum_i g_{ci}

    with the weights scaled so that the rarest class that occurs has weight 1.

    Use when: small objects beside large ones, strong imbalance between few classes.

    Args:
        smooth: s ≥ 0, in pixels of the rarest class. Default: 1.
        ignore_index: label of the pixels that are excluded from every sum and get no gradient; in [0,C) it excludes
            that class too. Default: 255. May also be given per call, there also as None.
        weight_type: ``'square'`` 1/A², ``'simple'`` 1/A, ``'uniform'`` 1. Default: ``'square'``.
        absent: weight of a class that does not occur: ``'max'``, that of the rarest one that does, or ``'zero'``.
            Default: ``'max'``.
        per_image: a loss per image (True), or one of the whole batch. Default: True.
        include_background: whether class 0 takes part. Default: True.
        activation: ``'auto'`` (softmax for several channels, sigmoid for one), ``'softmax'``, ``'sigmoid'``, or
            ``'none'`` for a pred that holds probabilities. Default: ``'auto'``.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,C,*S), one or more spatial dims; for one channel two are built, 1 - p and p.
        - target: integer (N,*S) or (N,1,*S), in [0,C) or ``ignore_index``; or one-hot or soft (N,C,*S).
        - weight: (N,), with ``per_image``.

    Returns:
        0-d for ``mean`` (over images that are not fully ignored) and ``sum``; for ``none`` (N,), or 0-d over the batch.

    Raises:
        InputError: a shape or a dtype that does not fit; a label outside [0,C) that is not ``ignore_index``; a sample
            weight with ``per_image=False``.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = GeneralizedDiceLoss(smooth=0.0)
        >>> pred = torch.tensor([[[4.0, 4.0, -4.0], [-4.0, -4.0, 4.0]]])
        >>> loss(pred, torch.tensor([[0, 0, 1]])), loss(pred, torch.tensor([[1, 1, 0]]))
        (tensor(0.0004), tensor(0.9997))

    References:
        Sudre et al., Generalised Dice Overlap as a Deep Learning Loss Function for Highly Unbalanced Segmentations,
        DLMIA 2017, arXiv 1707.03237.

    Notes:
        Without the scaling the weights decrease with the area of the image, and ``smooth`` does not: MONAI's loss of an
        all-wrong prediction is 0.16 at 2048². This one does not depend on the resolution.
    """

    function = generalized_dice_loss
    example = examples.PIXELS.probabilities_if("activation", "none")

    def __init__(
        self,
        smooth: float = 1.0,
        ignore_index: int = 255,
        weight_type: WeightType = "square",
        absent: Absent = "max",
        per_image: bool = True,
        include_background: bool = True,
        activation: Activation = "auto",
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.smooth = checks.number(self, "smooth", smooth, low=0)
        self.ignore_index = checks.number(self, "ignore_index", ignore_index, integer=True)
        self.weight_type = checks.choice(self, "weight_type", weight_type, tuple(_POWERS))
        self.absent = checks.choice(self, "absent", absent, ("max", "zero"))
        self.per_image = checks.flag(self, "per_image", per_image)
        self.include_background = checks.flag(self, "include_background", include_background)
        self.activation = checks.choice(self, "activation", activation, ACTIVATIONS)
