"""Dice and cross-entropy in one (as nnU-Net, Isensee et al., arXiv 1809.10486)."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor

from losses_core import Unreduced, examples
from losses_core.kernels import definition
from losses_core.utils import checks
from losses_seg._compound import Reduction, compound_loss, prepare_compound
from losses_seg._sync import SyncGroup
from losses_seg._targets import Classes
from losses_seg.compound_loss._base import CompoundLoss, CompoundOptions


@definition(prepare=prepare_compound, cast=False)
def dice_ce_loss(
    pred: Tensor,
    target: Tensor,
    *,
    dice_weight: float = 1.0,
    ce_weight: float = 1.0,
    smooth: float = 1.0,
    exponent: float = 2,
    ignore_index: int | None = 255,
    class_weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    per_image: bool = True,
    classes: Classes = "all",
    include_background: bool = True,
    reduction: Reduction = "mean",
    group: SyncGroup | None = None,
) -> Unreduced:
    """Compute Dice and cross-entropy together: see `DiceCELoss`.

    Args:
        pred: logits (N,C,*S).
        target: class indices (N,*S) or (N,1,*S); one-hot or soft (N,C,*S).
        dice_weight: weight ≥ 0 of the Dice loss.
        ce_weight: weight ≥ 0 of the cross-entropy, of one channel the binary one.
        smooth: s ≥ 0, in pixels.
        exponent: e ≥ 1 of the sums in the denominator of Dice.
        ignore_index: label of the pixels that are excluded from both; None: no pixel is.
        class_weight: (C,), of both; not for one channel.
        label_smoothing: of the cross-entropy, in [0, 1]; not for one channel.
        per_image: Dice sums per image, or over the batch.
        classes: of the Dice loss: ``'all'``, ``'present'`` or a list of ids.
        include_background: whether class 0 is averaged in the Dice loss.
        reduction: of each term: ``'mean'``, with its own normalizer, or ``'sum'``.
        group: the processes that hold the batch together; given by the class under ``sync_dist``.

    Returns:
        The shares of the images in the loss, (N,), or the loss, 0-d, over the batch. They are divided already: the
        normalizer of a mean adds up to 1.
    """
    return compound_loss(
        pred,
        target,
        dice_weight=dice_weight,
        pixel_weight=ce_weight,
        smooth=smooth,
        exponent=exponent,
        ignore_index=ignore_index,
        class_weight=class_weight,
        label_smoothing=label_smoothing,
        per_image=per_image,
        classes=classes,
        include_background=include_background,
        reduction=reduction,
        group=group,
    )


class DiceCELoss(CompoundLoss):
    r"""Dice and cross-entropy, from one softmax and one mask.

    .. math::
        L = w_D \cdot \text{mean}(\text{Dice}) + w_{CE} \cdot \text{mean}(\text{CE})

    with the means of ``DiceLoss`` and of ``CrossEntropyLoss``: Σ w L / Σ w over the pairs of image and class, and
    Σ w l / Σ w over the pixels.

    Use when: semantic segmentation, as the first loss to try; medical images, where it is the standard.

    Args:
        dice_weight: weight ≥ 0 of the Dice loss. Default: 1.
        ce_weight: weight ≥ 0 of the cross-entropy. Default: 1.
        label_smoothing: of the cross-entropy, in [0, 1]; not for one channel. Default: 0.
        smooth: s ≥ 0 of Dice, in pixels. Default: 1.
        exponent: e ≥ 1 in the denominator of Dice. Default: 2.
        naive_dice: e = 1 instead of ``exponent``. Default: False.
        ignore_index: label of the pixels that are excluded from both terms and get no gradient; in [0,C) it excludes
            that class from the mean of Dice too. Default: 255. May also be given per call, there also as None.
        class_weight: list or tensor of C weights ≥ 0, of both terms; not for one channel. Default: none.
        per_image: a Dice per image and class (True), or per class over the whole batch. Default: True.
        classes: of Dice: ``'all'``; ``'present'``, those that occur in the image (or batch); or a list of ids. Default:
            ``'all'``.
        include_background: whether class 0 is averaged in Dice (one channel is always averaged). Default: True.
        reduction: of each term: ``'mean'`` or ``'sum'``. Default: ``'mean'``.
        **options: ``loss_weight``, ``loss_name``, ``sync_dist`` of `BaseLoss`; an ``avg_factor`` is an error.

    Shape:
        - pred: logits (N,C,*S), one or more spatial dims; one channel is that of `BinaryDiceLoss` and
          ``BinaryCrossEntropyLoss``.
        - target: integer (N,*S) or (N,1,*S), in [0,C) or ``ignore_index``; or one-hot or soft (N,C,*S).
        - weight: (N,), with ``per_image``. It multiplies both terms and enters neither normalizer.

    Returns:
        0-d.

    Raises:
        InputError: a shape or a dtype that does not fit; a label outside [0,C) that is not ``ignore_index``; a sample
            weight with ``per_image=False``; ``reduction='none'`` or an ``avg_factor``: use a ``CombinedLoss`` for
            these.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> pred, target = torch.tensor([[[2.0, -1.0], [-1.0, 1.0]]]), torch.tensor([[0, 1]])
        >>> DiceCELoss()(pred, target), DiceCELoss(ce_weight=0.0)(pred, target)
        (tensor(0.0935), tensor(0.0058))

    References:
        Isensee et al., nnU-Net: Self-adapting Framework for U-Net-Based Medical Image Segmentation, arXiv 1809.10486.

    Notes:
        Value and gradient equal those of `DiceLoss` plus ``CrossEntropyLoss`` with these options; it takes less time
        and memory than they do together. The loss of nnU-Net is ``naive_dice=True, include_background=False,
        smooth=1e-5``, with ``per_image=False`` where its plan says batch_dice, and without the 1 of 1 - Dice. With
        ``naive_dice=True`` the values are those of MONAI, which cannot ignore a label.
    """

    function = dice_ce_loss
    example = examples.PIXELS
    losses = "DiceLoss and CrossEntropyLoss"

    def __init__(
        self,
        dice_weight: float = 1.0,
        ce_weight: float = 1.0,
        label_smoothing: float = 0.0,
        **options: Unpack[CompoundOptions],
    ) -> None:
        super().__init__(**options)
        self.dice_weight = checks.number(self, "dice_weight", dice_weight, low=0)
        self.ce_weight = checks.number(self, "ce_weight", ce_weight, low=0)
        self.label_smoothing = checks.number(self, "label_smoothing", label_smoothing, low=0, high=1)
