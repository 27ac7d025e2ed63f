"""Dice and the focal loss in one (as AnatomyNet, Zhu et al., arXiv 1808.05238)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

from torch import Tensor

from losses_core import Unreduced, examples
from losses_core.errors import InputError
from losses_core.kernels import Prepared, definition
from losses_core.utils import checks
from losses_seg._compound import Reduction, compound_loss, prepare_compound
from losses_seg._sync import SyncGroup
from losses_seg._targets import Classes
from losses_seg.compound_loss._base import CompoundLoss, CompoundOptions


def _prepare(pred: Any, target: Any, **options: Any) -> Prepared:
    if options["gamma"] < 0:
        raise InputError(f"gamma: expected a number >= 0; got {options['gamma']}.")
    return prepare_compound(pred, target, **options)


@definition(prepare=_prepare, cast=False)
def dice_focal_loss(
    pred: Tensor,
    target: Tensor,
    *,
    dice_weight: float = 1.0,
    focal_weight: float = 1.0,
    gamma: float = 2.0,
    alpha: Tensor | float | None = None,
    smooth: float = 1.0,
    exponent: float = 2,
    ignore_index: int | None = 255,
    class_weight: Tensor | None = None,
    per_image: bool = True,
    classes: Classes = "all",
    include_background: bool = True,
    reduction: Reduction = "mean",
    group: SyncGroup | None = None,
) -> Unreduced:
    """Compute Dice and the focal loss together: see `DiceFocalLoss`.

    Args:
        pred: logits (N,C,*S).
        target: class indices (N,*S) or (N,1,*S); one-hot or soft (N,C,*S).
        dice_weight: weight ≥ 0 of the Dice loss.
        focal_weight: weight ≥ 0 of the focal loss, of one channel the sigmoid one.
        gamma: focusing parameter γ ≥ 0.
        alpha: a plain factor, or (C,), one per class; of one channel the weight of the positives; None or negative:
            off.
        smooth: s ≥ 0, in pixels.
        exponent: e ≥ 1 of the sums in the denominator of Dice.
        ignore_index: label of the pixels that are excluded from both; None: no pixel is.
        class_weight: (C,), of both; not for one channel.
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
        pixel_weight=focal_weight,
        gamma=gamma,
        alpha=alpha,
        smooth=smooth,
        exponent=exponent,
        ignore_index=ignore_index,
        class_weight=class_weight,
        per_image=per_image,
        classes=classes,
        include_background=include_background,
        reduction=reduction,
        group=group,
    )


class DiceFocalLoss(CompoundLoss):
    r"""Dice and the focal loss, from one softmax and one mask.

    .. math::
        L = w_D \cdot \text{mean}(\text{Dice}) + w_F \cdot \text{mean}(\text{focal}), \qquad
        \text{focal} = -\alpha\, (1-p_y)^\gamma \log p_y

    with the means of ``DiceLoss`` and of ``FocalLoss``: Σ w L / Σ w over the pairs of image and class, and Σ w l / Σ w
    over the pixels.

    Use when: small structures beside large ones, where cross-entropy is dominated by pixels that are right already.

    Args:
        dice_weight: weight ≥ 0 of the Dice loss. Default: 1.
        focal_weight: weight ≥ 0 of the focal loss. Default: 1.
        gamma: γ ≥ 0; 0 gives `DiceCELoss`. Default: 2.
        alpha: a plain factor, or a list of C; of one channel the weight of the positives; None or negative: off.
            Default: none.
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
          ``BinaryFocalLoss``.
        - target: integer (N,*S) or (N,1,*S), in [0,C) or ``ignore_index``; or one-hot or soft (N,C,*S), with g_c the
          weight of the focal loss of class c.
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
        >>> DiceFocalLoss()(pred, target), DiceFocalLoss(gamma=0.0)(pred, target)
        (tensor(0.0067), tensor(0.0935))

    References:
        Zhu et al., AnatomyNet: Deep Learning for Fast and Fully Automated Whole-Volume Segmentation of Head and Neck
        Anatomy, Medical Physics 2019, arXiv 1808.05238.

    Notes:
        Value and gradient equal those of `DiceLoss` plus ``FocalLoss`` with these options. It takes less memory than
        they do together, and for several channels less time. The focal term of MONAI is a sigmoid per class over all
        N·C·S elements, also with ``softmax=True``, so its values differ.
    """

    function = dice_focal_loss
    example = examples.PIXELS
    losses = "DiceLoss and FocalLoss"

    def __init__(
        self,
        dice_weight: float = 1.0,
        focal_weight: float = 1.0,
        gamma: float = 2.0,
        alpha: float | Sequence[float] | Tensor | None = None,
        **options: Unpack[CompoundOptions],
    ) -> None:
        super().__init__(**options)
        self.dice_weight = checks.number(self, "dice_weight", dice_weight, low=0)
        self.focal_weight = checks.number(self, "focal_weight", focal_weight, low=0)
        self.gamma = checks.number(self, "gamma", gamma, low=0)
        self._set_vector("alpha", alpha)
