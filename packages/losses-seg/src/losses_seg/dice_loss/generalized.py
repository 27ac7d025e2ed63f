"""The generalised Dice loss (Sudre et al., DLMIA 2017, arXiv 1707.03237)."""

from __future__ import annotations

import dataclasses
from typing import Literal, Unpack

import torch
from torch import Tensor

from losses_core import LossOptions, Unreduced, examples
from losses_core.errors import InputError
from losses_core.utils import checks
from losses_core.utils.deferred import Deferred
from losses_core.utils.precision import full_precision
from losses_seg._activation import probabilities
from losses_seg._overlap import Overlap
from losses_seg._ranks import BatchLevel, Ranks
from losses_seg._sums import Sums, class_sums
from losses_seg._targets import (
    ACTIVATIONS,
    Activation,
    chosen,
    has_pixels,
    image_weight,
    ratio,
    read_target,
)

WeightType = Literal["square", "simple", "uniform"]
Absent = Literal["max", "zero"]
_POWERS: dict[WeightType, int] = {"square": 2, "simple": 1, "uniform": 0}


@dataclasses.dataclass(frozen=True)
class _Generalized:
    """The loss of each image, as a `losses_seg._overlap.Formula`."""

    smooth: float
    power: int
    absent: Absent
    ignore_index: int
    include_background: bool
    per_image: bool
    ranks: Ranks | None

    def __call__(self, sums: Sums, seen: Tensor | None) -> Unreduced:
        if not self.per_image:
            sums, seen = sums.over_batch(seen, self.ranks)
        _, numerator, denominator = self._parts(sums)
        value = 1 - ratio(numerator, denominator, otherwise=1)
        normalizer = None if seen is None else seen.any(-1)
        return Unreduced(value, normalizer, already_global=self.ranks is not None)

    def slope(self, sums: Sums, seen: Tensor | None) -> tuple[Tensor, Tensor]:
        if not self.per_image:
            sums, _ = sums.over_batch(seen, self.ranks)
        weight, numerator, denominator = self._parts(sums)
        inverse = ratio(torch.ones_like(denominator), denominator)
        return weight * (-2 * inverse).unsqueeze(-1), weight * (numerator * inverse * inverse).unsqueeze(-1)

    def _parts(self, sums: Sums) -> tuple[Tensor, Tensor, Tensor]:
        """The weights of the classes, numerator and denominator."""
        area = sums.true
        counted = chosen(area.shape[-1], area.device, "all", self.ignore_index, self.include_background)
        weight = _class_weight(area, counted, self.power, self.absent)
        inter = (weight * sums.inter).sum(-1)
        total = (weight * (sums.pred + sums.true)).sum(-1)
        return weight, 2 * inter + self.smooth, total + self.smooth


@full_precision
def generalized_dice_loss(
    pred: Tensor,
    target: Tensor,
    *,
    smooth: float = 1.0,
    ignore_index: int = 255,
    weight_type: WeightType = "square",
    absent: Absent = "max",
    per_image: bool = True,
    include_background: bool = True,
    activation: Activation = "auto",
    ranks: Ranks | None = None,
) -> Unreduced:
    """Generalised Dice loss, unreduced: see `GeneralizedDiceLoss`.

    Args:
        pred: logits (N,C,*S).
        target: class indices (N,*S) or (N,1,*S); one-hot or soft (N,C,*S).
        smooth: s ≥ 0, in pixels of the rarest class.
        ignore_index: label whose pixels leave every sum.
        weight_type: ``'square'`` 1/A², ``'simple'`` 1/A or ``'uniform'`` 1, with A the area of a class.
        absent: weight of a class that does not occur: ``'max'`` that of the rarest one, ``'zero'`` none.
        per_image: sums per image, or over the batch.
        include_background: whether class 0 takes part.
        activation: ``'auto'``, ``'softmax'``, ``'sigmoid'`` or ``'none'``.
        ranks: the processes that hold the batch together, where it is spread (set by the class under ``sync_dist``).

    Returns:
        The loss (N,), or 0-d over the batch; as normalizer, whether there is a pixel that is not ignored.
    """
    if weight_type not in _POWERS:
        raise InputError(f"weight_type: expected one of {', '.join(map(repr, _POWERS))}; got {weight_type!r}.")
    formula = _Generalized(smooth, _POWERS[weight_type], absent, ignore_index, include_background, per_image, ranks)
    result = _deferred(pred, target, formula, activation)
    return result if isinstance(result, Unreduced) else result.unreduced()


def _deferred(pred: Tensor, target: Tensor, formula: _Generalized, activation: Activation) -> Deferred | Unreduced:
    label = formula.ignore_index
    if pred.ndim < 2 or pred.shape[1] > 1:
        return Overlap(pred, target, formula, exponent=1, ignore_index=label, activation=activation)
    goal = read_target(pred, target, label, activation)
    p = probabilities(pred, goal.ignored, activation)
    pairs = zip(class_sums(p, goal, opposite=True), class_sums(p, goal), strict=True)
    sums = Sums(*(torch.cat(pair, -1) for pair in pairs))
    # of two channels built from one, ignore_index takes out neither: it is a value there
    return dataclasses.replace(formula, ignore_index=-1)(sums, has_pixels(goal))


def _class_weight(area: Tensor, counted: Tensor, power: int, absent: Absent) -> Tensor:
    """A^-power, scaled so that the rarest class has weight 1: then ``smooth`` is in pixels at every resolution."""
    present = counted & (area > 0)
    rarest = area.masked_fill(~present, torch.inf).amin(-1, keepdim=True)
    weight = ratio(rarest, area).masked_fill(~present, 1 if absent == "max" else 0) ** power
    if absent == "zero":
        weight = weight.masked_fill(~present, 0)
    return weight.masked_fill(~counted, 0)


class GeneralizedDiceLoss(BatchLevel):
    r"""Generalised Dice loss: one overlap over all classes, each weighted by the inverse of its area.

    .. math::
        L = 1 - \frac{2 \sum_c w_c I_c + s}{\sum_c w_c (P_c + A_c) + s}, \qquad w_c \propto \frac{1}{A_c^2}, \qquad
        I_c = \sum_i p_{ci}\, g_{ci},\; P_c = \sum_i p_{ci},\; A_c = \sum_i g_{ci}

    with the weights scaled so that the rarest class that occurs has weight 1.

    Use when: small objects beside large ones, strong imbalance between few classes.

    Args:
        smooth: s ≥ 0, in pixels of the rarest class. Default: 1.
        ignore_index: label whose pixels leave every sum and get no gradient; in [0,C) it takes that class out too.
            Default: 255. May also be given per call.
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
        InputError: a shape or a dtype that does not fit; a sample weight with ``per_image=False``.
        ConfigError: an option outside its range.
        RuntimeError: on the CPU, a label outside [0,C) that is not ``ignore_index``.

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
        Without the scaling the weights fall with the area of the image while ``smooth`` stays: in a well-known
        implementation an all-wrong prediction costs 0.16 at 2048². Here its cost does not depend on the resolution.
    """

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

    def _map_weight(self, weight: Tensor, pred: Tensor, target: Tensor) -> Tensor:
        return image_weight(weight, pred, self.per_image)

    def _forward(self, pred: Tensor, target: Tensor, *, ignore_index: int) -> Deferred | Unreduced:
        formula = _Generalized(
            self.smooth,
            _POWERS[self.weight_type],
            self.absent,
            ignore_index,
            self.include_background,
            self.per_image,
            self._ranks(),
        )
        return _deferred(pred, target, formula, self.activation)
