"""The soft Dice loss per class (Milletari et al., 3DV 2016, arXiv 1606.04797), and its one-channel form."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal, Unpack

import torch
from torch import Tensor

from losses_core import LossOptions, Unreduced, examples
from losses_core.utils import checks
from losses_core.utils.deferred import Deferred
from losses_core.utils.precision import full_precision
from losses_seg._overlap import Overlap
from losses_seg._ranks import BatchLevel, Ranks
from losses_seg._sums import Sums
from losses_seg._targets import (
    ACTIVATIONS,
    Activation,
    Classes,
    check_classes,
    check_ids,
    chosen,
    image_weight,
    one_channel,
    ratio,
)


@dataclasses.dataclass(frozen=True)
class _Dice:
    """The loss of each image and class, as a `losses_seg._overlap.Formula`; of one channel, of each image."""

    smooth: float
    classes: Classes
    ignore_index: int
    include_background: bool = True
    class_weight: Tensor | None = None
    per_image: bool = True
    ranks: Ranks | None = None
    one_channel: bool = False

    def __call__(self, sums: Sums, seen: Tensor | None) -> Unreduced:
        if not self.per_image:
            sums, seen = sums.over_batch(seen, self.ranks)
        numerator, denominator = self._parts(sums)
        value = 1 - (numerator / denominator if self.smooth else ratio(numerator, denominator, otherwise=1))
        counted, weight = self._counted(sums, seen), self.class_weight
        if counted is not None:
            value = (value if weight is None else weight * value).where(counted, 0)
            normalizer = counted if weight is None else weight.where(counted, 0)
        elif weight is not None:
            value, normalizer = weight * value, weight.expand_as(value)
        else:
            normalizer = None
        if self.one_channel:
            value, normalizer = value.squeeze(-1), None if normalizer is None else normalizer.squeeze(-1)
        return Unreduced(value, normalizer, already_global=self.ranks is not None)

    def slope(self, sums: Sums, seen: Tensor | None) -> tuple[Tensor, Tensor]:
        if not self.per_image:
            sums, seen = sums.over_batch(seen, self.ranks)
        numerator, denominator = self._parts(sums)
        inverse = 1 / denominator if self.smooth else ratio(torch.ones_like(denominator), denominator)
        counted, weight = self._counted(sums, seen), self.class_weight
        of_inter, of_pred = -2 * inverse, numerator * inverse * inverse
        if weight is not None:
            of_inter, of_pred = of_inter * weight, of_pred * weight
        if counted is not None:
            of_inter, of_pred = of_inter.where(counted, 0), of_pred.where(counted, 0)
        return of_inter, of_pred

    def _parts(self, sums: Sums) -> tuple[Tensor, Tensor]:
        numerator, denominator = 2 * sums.inter, sums.pred + sums.true
        return (numerator + self.smooth, denominator + self.smooth) if self.smooth else (numerator, denominator)

    def _counted(self, sums: Sums, seen: Tensor | None) -> Tensor | None:
        """Which are in the mean; None: all."""
        c = sums.true.shape[-1]
        everything = self.classes in ("all", "present") and (
            c == 1 or (self.include_background and not 0 <= self.ignore_index < c)
        )
        if everything:
            counted = seen
        else:
            counted = chosen(c, sums.true.device, self.classes, self.ignore_index, self.include_background)
            counted = counted if seen is None else seen & counted
        if self.classes == "present":
            present = sums.true > 0
            counted = present if counted is None else counted & present
        return counted if counted is None else counted.expand_as(sums.true)


@full_precision
def dice_loss(
    pred: Tensor,
    target: Tensor,
    *,
    smooth: float = 1.0,
    exponent: float = 2,
    ignore_index: int = 255,
    class_weight: Tensor | None = None,
    per_image: bool = True,
    classes: Classes = "all",
    include_background: bool = True,
    activation: Activation = "auto",
    ranks: Ranks | None = None,
) -> Unreduced:
    """Soft Dice loss of each class, unreduced: see `DiceLoss`.

    Args:
        pred: logits (N,C,*S).
        target: class indices (N,*S) or (N,1,*S); one-hot or soft (N,C,*S).
        smooth: s ≥ 0, in pixels.
        exponent: e ≥ 1 of the sums in the denominator.
        ignore_index: label whose pixels leave every sum.
        class_weight: (C,).
        per_image: sums per image, or over the batch.
        classes: ``'all'``, ``'present'`` or a list of ids.
        include_background: whether class 0 takes part.
        activation: ``'auto'``, ``'softmax'``, ``'sigmoid'`` or ``'none'``.
        ranks: the processes that hold the batch together, where it is spread (set by the class under ``sync_dist``).

    Returns:
        The loss (N,C), or (C,) over the batch, times the class weight; 0 where a class is not counted. As normalizer, the
        class weight where it is counted.
    """
    check_ids(pred, classes)
    formula = _Dice(smooth, classes, ignore_index, include_background, class_weight, per_image, ranks)
    return Overlap(
        pred, target, formula, exponent=exponent, ignore_index=ignore_index, activation=activation
    ).unreduced()


class DiceLoss(BatchLevel):
    r"""Soft Dice loss: one minus the overlap of prediction and truth, for each class on its own.

    .. math::
        L_{nc} = 1 - \frac{2 I_{nc} + s}{\sum_i p_{nci}^e + \sum_i g_{nci}^e + s}, \qquad
        I_{nc} = \sum_i p_{nci}\, g_{nci}, \qquad
        \text{mean} = \frac{\sum_{nc} w_c L_{nc}}{\sum_{nc} w_c}

    over the pixels i that are not ignored, and the pairs of image and class that are counted.

    Use when: semantic and instance segmentation with imbalanced classes, beside cross-entropy; medical images.

    Args:
        smooth: s ≥ 0, in pixels, in numerator and denominator; with 0, an empty class that is predicted empty costs 0.
            Default: 1.
        exponent: e ≥ 1 in the denominator. Default: 2.
        ignore_index: label whose pixels leave every sum and get no gradient; in [0,C) it takes that class out of the
            mean too. Default: 255. May also be given per call.
        naive_dice: e = 1 instead of ``exponent``. Default: False.
        class_weight: list or tensor of C weights ≥ 0. Default: none.
        per_image: a Dice per image and class (True), or per class over the whole batch. Default: True.
        classes: ``'all'``; ``'present'`` leaves out a class that does not occur in the image (or batch); a list of ids.
            Default: ``'all'``.
        include_background: whether class 0 is averaged too (one channel is always averaged). Default: True.
        activation: ``'auto'`` (softmax for several channels, sigmoid for one), ``'softmax'``, ``'sigmoid'``, or
            ``'none'`` for a pred that holds probabilities. Default: ``'auto'``.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,C,*S), one or more spatial dims.
        - target: integer (N,*S) or (N,1,*S), in [0,C) or ``ignore_index``; or one-hot or soft (N,C,*S). For one channel
          the values 0, 1 and ``ignore_index``, or soft.
        - weight: (N,), with ``per_image``.

    Returns:
        0-d for ``mean`` (Σ w L / Σ w over the counted pairs; a fully ignored image is none) and ``sum``; for ``none``
        (N,C), or (C,) over the batch.

    Raises:
        InputError: a shape or a dtype that does not fit; a sample weight with ``per_image=False``.
        ConfigError: an option outside its range.
        RuntimeError: on the CPU, a label outside [0,C) that is not ``ignore_index``.

    Example:
        >>> import torch
        >>> loss = DiceLoss(smooth=0.0)
        >>> pred = torch.tensor([[[4.0, -4.0], [-4.0, 4.0]]])
        >>> loss(pred, torch.tensor([[0, 1]])), loss(pred, torch.tensor([[1, 0]]))
        (tensor(1.1921e-07), tensor(0.9997))

    References:
        Milletari et al., V-Net: Fully Convolutional Neural Networks for Volumetric Medical Image Segmentation, 3DV
        2016, arXiv 1606.04797.

    Notes:
        The mean is over classes always: with a softmax, one ratio over all classes is only 1 - mean of the true class's
        probability. Sums are float32 or better, so 512² pixels in half precision give the float32 result (NaN or 1.0 in
        well-known implementations). Index targets are never one-hot encoded. For soft targets and e = 1 the
        intersection is (Σp + Σg - Σ\|p-g\|)/2, so that a perfect soft prediction costs 0.
    """

    example = examples.PIXELS.probabilities_if("activation", "none")

    def __init__(
        self,
        smooth: float = 1.0,
        exponent: float = 2,
        ignore_index: int = 255,
        naive_dice: bool = False,
        class_weight: Sequence[float] | Tensor | None = None,
        per_image: bool = True,
        classes: str | Sequence[int] = "all",
        include_background: bool = True,
        activation: Activation = "auto",
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.smooth = checks.number(self, "smooth", smooth, low=0)
        self.exponent = checks.number(self, "exponent", exponent, low=1)
        self.ignore_index = checks.number(self, "ignore_index", ignore_index, integer=True)
        self.naive_dice = checks.flag(self, "naive_dice", naive_dice)
        self._set_vector("class_weight", class_weight)
        self.per_image = checks.flag(self, "per_image", per_image)
        self.classes = check_classes(self, classes)
        self.include_background = checks.flag(self, "include_background", include_background)
        self.activation = checks.choice(self, "activation", activation, ACTIVATIONS)

    def _map_weight(self, weight: Tensor, pred: Tensor, target: Tensor) -> Tensor:
        return image_weight(weight, pred, self.per_image)

    def _forward(self, pred: Tensor, target: Tensor, *, ignore_index: int) -> Deferred:
        check_ids(pred, self.classes)
        formula = _Dice(
            self.smooth,
            self.classes,
            ignore_index,
            self.include_background,
            self._vector("class_weight", pred, pred.shape[1]),
            self.per_image,
            self._ranks(),
        )
        exponent = 1 if self.naive_dice else self.exponent
        return Overlap(pred, target, formula, exponent=exponent, ignore_index=ignore_index, activation=self.activation)


class BinaryDiceLoss(BatchLevel):
    r"""Soft Dice loss of one channel: foreground against background.

    .. math:: L_n = 1 - \frac{2 \sum_i p_{ni}\, g_{ni} + s}{\sum_i p_{ni}^e + \sum_i g_{ni}^e + s}, \qquad p = \sigma(x)

    Use when: one structure against the rest (lesions, roads, a mask per instance), beside binary cross-entropy.

    Args:
        smooth: s ≥ 0, in pixels, in numerator and denominator; with 0, an empty mask that is predicted empty costs 0.
            Default: 1.
        exponent: e ≥ 1 in the denominator. Default: 2.
        ignore_index: value whose pixels leave every sum and get no gradient. Default: 255. May also be given per call.
        naive_dice: e = 1 instead of ``exponent``. Default: False.
        per_image: a Dice per image (True), or one of the whole batch. Default: True.
        classes: ``'all'``; ``'present'`` leaves out images without foreground. Default: ``'all'``.
        activation: ``'auto'`` or ``'sigmoid'``, or ``'none'`` for a pred that holds probabilities. Default: ``'auto'``.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,1,*S), or (N,*S) with a target of the same shape.
        - target: (N,*S) or (N,1,*S) with the values 0, 1 and ``ignore_index``, or soft.
        - weight: (N,), with ``per_image``.

    Returns:
        0-d for ``mean`` (over images that are not fully ignored) and ``sum``; for ``none`` (N,), or 0-d over the batch.

    Raises:
        InputError: a shape that does not fit; several channels with class indices; a weight with ``per_image=False``.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = BinaryDiceLoss()
        >>> loss(torch.tensor([[[2.0, -2.0, 0.0]]]), torch.tensor([[1, 0, 255]]))
        tensor(0.0102)

    References:
        Milletari et al., V-Net: Fully Convolutional Neural Networks for Volumetric Medical Image Segmentation, 3DV
        2016, arXiv 1606.04797.

    Notes:
        Equals `DiceLoss` on one channel. The paper's Dice has e = 2; the form with e = 1 is ``naive_dice=True``.
    """

    example = examples.MASKS.probabilities_if("activation", "none")

    def __init__(
        self,
        smooth: float = 1.0,
        exponent: float = 2,
        ignore_index: int = 255,
        naive_dice: bool = False,
        per_image: bool = True,
        classes: Literal["all", "present"] = "all",
        activation: Activation = "auto",
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.smooth = checks.number(self, "smooth", smooth, low=0)
        self.exponent = checks.number(self, "exponent", exponent, low=1)
        self.ignore_index = checks.number(self, "ignore_index", ignore_index, integer=True)
        self.naive_dice = checks.flag(self, "naive_dice", naive_dice)
        self.per_image = checks.flag(self, "per_image", per_image)
        self.classes = checks.choice(self, "classes", classes, ("all", "present"))
        self.activation = checks.choice(self, "activation", activation, ACTIVATIONS)

    def _map_weight(self, weight: Tensor, pred: Tensor, target: Tensor) -> Tensor:
        return image_weight(weight, pred, self.per_image)

    def _forward(self, pred: Tensor, target: Tensor, *, ignore_index: int) -> Deferred:
        pred, target = one_channel(pred, target, "DiceLoss")
        formula = _Dice(
            self.smooth,
            self.classes,
            ignore_index,
            per_image=self.per_image,
            ranks=self._ranks(),
            one_channel=True,
        )
        exponent = 1 if self.naive_dice else self.exponent
        return Overlap(pred, target, formula, exponent=exponent, ignore_index=ignore_index, activation=self.activation)
