"""The soft Dice loss per class (Milletari et al., 3DV 2016, arXiv 1606.04797), and its one-channel form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Unpack

from torch import Tensor

from losses_core import LossOptions, Unreduced, examples
from losses_core.kernels import definition
from losses_core.utils import checks
from losses_seg._region import dice_distance, dice_intersection, loss_per_class, prepare_region, region
from losses_seg._sync import BatchReducedLoss, SyncGroup
from losses_seg._targets import ACTIVATIONS, Activation, Classes, check_classes, one_channel


@definition(prepare=prepare_region, cast=False)
def dice_loss(
    pred: Tensor,
    target: Tensor,
    *,
    smooth: float = 1.0,
    exponent: float = 2,
    ignore_index: int | None = 255,
    class_weight: Tensor | None = None,
    per_image: bool = True,
    classes: Classes = "all",
    include_background: bool = True,
    activation: Activation = "auto",
    group: SyncGroup | None = None,
) -> Unreduced:
    """Compute the soft Dice loss of each class, unreduced: see `DiceLoss`.

    Args:
        pred: logits (N,C,*S).
        target: class indices (N,*S) or (N,1,*S); one-hot or soft (N,C,*S).
        smooth: s ≥ 0, in pixels.
        exponent: e ≥ 1 of the sums in the denominator.
        ignore_index: label of the pixels that are excluded from every sum; None: no pixel is.
        class_weight: (C,).
        per_image: sums per image, or over the batch.
        classes: ``'all'``, ``'present'`` or a list of ids.
        include_background: whether class 0 is averaged too.
        activation: ``'auto'``, ``'softmax'``, ``'sigmoid'`` or ``'none'``.
        group: the processes that hold the batch together; given by the class under ``sync_dist``.

    Returns:
        The loss (N,C), or (C,) over the batch, times the class weight; 0 where a class is not counted. As normalizer,
        the class weight where it is counted.
    """
    sums = region(
        pred,
        target,
        ignore_index=ignore_index,
        activation=activation,
        exponent=exponent,
        intersection=dice_intersection(exponent),
        per_image=per_image,
        group=group,
    )
    return loss_per_class(
        dice_distance(sums, smooth),
        sums,
        classes=classes,
        ignore_index=ignore_index,
        include_background=include_background,
        class_weight=class_weight,
        group=group,
    )


def _prepare_binary(pred: Any, target: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    return prepare_region(*one_channel(pred, target, "DiceLoss"), **options)


@definition(prepare=_prepare_binary, cast=False)
def binary_dice_loss(
    pred: Tensor,
    target: Tensor,
    *,
    smooth: float = 1.0,
    exponent: float = 2,
    ignore_index: int | None = 255,
    per_image: bool = True,
    classes: Literal["all", "present"] = "all",
    activation: Activation = "auto",
    group: SyncGroup | None = None,
) -> Unreduced:
    """Compute the soft Dice loss of one channel, unreduced: see `BinaryDiceLoss`.

    Args:
        pred: logits (N,1,*S), or (N,*S) with a target of the same shape.
        target: 0, 1 and ``ignore_index``, or soft, (N,*S) or (N,1,*S).
        smooth: s ≥ 0, in pixels.
        exponent: e ≥ 1 of the sums in the denominator.
        ignore_index: value of the pixels that are excluded from every sum; None: no pixel is.
        per_image: sums per image, or over the batch.
        classes: ``'all'``, or ``'present'`` for images with foreground.
        activation: ``'auto'``, ``'sigmoid'`` or ``'none'``.
        group: the processes that hold the batch together; given by the class under ``sync_dist``.

    Returns:
        The loss (N,), or 0-d over the batch; as normalizer, whether it is counted.
    """
    result = dice_loss(
        pred,
        target,
        smooth=smooth,
        exponent=exponent,
        ignore_index=ignore_index,
        per_image=per_image,
        classes=classes,
        activation=activation,
        group=group,
    )
    normalizer = None if result.normalizer is None else result.normalizer.squeeze(-1)
    return Unreduced(result.value.squeeze(-1), normalizer, result.already_global)


class DiceLoss(BatchReducedLoss):
    r"""Soft Dice loss: one minus the overlap of prediction and truth, for each class on its own.

    .. math::
        L_{nc} = 1 - \frac{2 I_{nc} + s}{\sum_i p_{nci}^e + \sum_i g_{nci}^e + s}, \qquad
        I_{nc} = \sum_i p_{nci}\, g_{nci}, \qquad
        \text{mean} = \frac{\sum_{nc} w_c L_{nc}}{\sum_{nc} w_c}

    over the pixels i that are not ignored, and the pairs of image and class that are counted.

    Use when: semantic and instance segmentation with imbalanced classes, beside cross-entropy; medical images.

    Args:
        smooth: s ≥ 0, in pixels, in numerator and denominator; with 0, the loss of an absent class that is not
            predicted is 0. Default: 1.
        exponent: e ≥ 1 in the denominator. Default: 2.
        ignore_index: label of the pixels that are excluded from every sum and get no gradient; in [0,C) it excludes
            that class from the mean too. Default: 255. May also be given per call, there also as None.
        naive_dice: e = 1 instead of ``exponent``. Default: False.
        class_weight: list or tensor of C weights ≥ 0. Default: none.
        per_image: a Dice per image and class (True), or per class over the whole batch. Default: True.
        classes: ``'all'``; ``'present'``, those that occur in the image (or batch); or a list of ids. Default:
            ``'all'``.
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
        0-d for ``mean`` (Σ w L / Σ w over the pairs that are counted, none of a fully ignored image) and ``sum``; for
        ``none`` (N,C), or (C,) over the batch.

    Raises:
        InputError: a shape or a dtype that does not fit; a label outside [0,C) that is not ``ignore_index``; a sample
            weight with ``per_image=False``.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = DiceLoss(smooth=0.0)
        >>> pred = torch.tensor([[[1.0, -1.0], [-1.0, 1.0]]])
        >>> loss(pred, torch.tensor([[0, 1]])), loss(pred, torch.tensor([[1, 0]]))
        (tensor(0.0159), tensor(0.8668))

    References:
        Milletari et al., V-Net: Fully Convolutional Neural Networks for Volumetric Medical Image Segmentation, 3DV
        2016, arXiv 1606.04797.

    Notes:
        The mean is always over classes: with a softmax, one ratio over all classes is only 1 minus the mean probability
        of the true class. Sums are in float32 or better, so 512² pixels in half precision give the float32 result
        (other libraries return NaN or 1.0). Index targets are not one-hot encoded. For soft targets and e = 1 the
        intersection is (Σp + Σg - Σ\|p-g\|)/2, so that the loss of a perfect soft prediction is 0. In half precision
        nothing of the size of the logits is saved for backward; in full precision the probabilities are.
    """

    function = dice_loss
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

    def _arguments(self, pred: Any, target: Any, options: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
        exponent = 1 if self.naive_dice else self.exponent
        return super()._arguments(pred, target, {**options, "exponent": exponent})


class BinaryDiceLoss(BatchReducedLoss):
    r"""Soft Dice loss of one channel: foreground against background.

    .. math:: L_n = 1 - \frac{2 \sum_i p_{ni}\, g_{ni} + s}{\sum_i p_{ni}^e + \sum_i g_{ni}^e + s}, \qquad p = \sigma(x)

    Use when: one structure against the rest (lesions, roads, a mask per instance), beside binary cross-entropy.

    Args:
        smooth: s ≥ 0, in pixels, in numerator and denominator; with 0, the loss of an empty mask that is predicted
            empty is 0. Default: 1.
        exponent: e ≥ 1 in the denominator. Default: 2.
        ignore_index: value of the pixels that are excluded from every sum and get no gradient. Default: 255. May also
            be given per call, there also as None.
        naive_dice: e = 1 instead of ``exponent``. Default: False.
        per_image: a Dice per image (True), or one of the whole batch. Default: True.
        classes: ``'all'``, or ``'present'``: only images with foreground are counted. Default: ``'all'``.
        activation: ``'auto'`` or ``'sigmoid'``, or ``'none'`` for a pred that holds probabilities. Default: ``'auto'``.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,1,*S), or (N,*S) with a target of the same shape.
        - target: (N,*S) or (N,1,*S) with the values 0, 1 and ``ignore_index``, or soft.
        - weight: (N,), with ``per_image``.

    Returns:
        0-d for ``mean`` (over images that are not fully ignored) and ``sum``; for ``none`` (N,), or 0-d over the batch.

    Raises:
        InputError: a shape that does not fit; several channels with class indices; a value outside [0,1] that is not
            ``ignore_index``; a weight with ``per_image=False``.
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

    function = binary_dice_loss
    channels = 1
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

    def _arguments(self, pred: Any, target: Any, options: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
        exponent = 1 if self.naive_dice else self.exponent
        return super()._arguments(pred, target, {**options, "exponent": exponent})
