"""The Tversky loss (Salehi et al., MLMI 2017, arXiv 1706.05721)."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor

from losses_core import Unreduced, examples
from losses_core.kernels import definition
from losses_core.utils import checks
from losses_seg._region import loss_per_class, region
from losses_seg._region_loss import RegionLoss, RegionOptions
from losses_seg._sync import SyncGroup
from losses_seg._targets import Activation, Classes
from losses_seg._tversky import prepare_tversky, tversky_distance


@definition(prepare=prepare_tversky, cast=False)
def tversky_loss(
    pred: Tensor,
    target: Tensor,
    *,
    alpha: float = 0.5,
    beta: float = 0.5,
    smooth: float = 1.0,
    ignore_index: int | None = 255,
    class_weight: Tensor | None = None,
    per_image: bool = True,
    classes: Classes = "all",
    include_background: bool = True,
    activation: Activation = "auto",
    group: SyncGroup | None = None,
) -> Unreduced:
    """Compute the Tversky loss of each class, unreduced: see `TverskyLoss`.

    Args:
        pred: logits (N,C,*S).
        target: class indices (N,*S) or (N,1,*S); one-hot or soft (N,C,*S).
        alpha: weight ≥ 0 of the false positives.
        beta: weight ≥ 0 of the false negatives.
        smooth: s ≥ 0, in pixels.
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
    sums = region(pred, target, ignore_index=ignore_index, activation=activation, per_image=per_image, group=group)
    return loss_per_class(
        tversky_distance(sums, alpha, beta, smooth),
        sums,
        classes=classes,
        ignore_index=ignore_index,
        include_background=include_background,
        class_weight=class_weight,
        group=group,
    )


class TverskyLoss(RegionLoss):
    r"""Tversky loss: an overlap in which false positives and false negatives have weights of their own.

    .. math::
        L_{nc} = 1 - \frac{TP + s}{TP + \alpha FP + \beta FN + s}

    .. math::
        TP = \sum_i p_{nci}\, g_{nci}, \quad FP = \sum_i p_{nci} - TP, \quad FN = \sum_i g_{nci} - TP

    over the pixels i that are not ignored; mean: :math:`\sum w_c L_{nc} / \sum w_c` over the pairs of image and class
    that are counted.

    Use when: a missed structure is worse than a false alarm (β > α), as for lesions, or the other way round; beside
    cross-entropy.

    Args:
        alpha: α ≥ 0, weight of the false positives. Default: 0.5.
        beta: β ≥ 0, weight of the false negatives. Default: 0.5.
        smooth: s ≥ 0, in pixels, in numerator and denominator; with 0, the loss of an absent class that is not
            predicted is 0. Default: 1.
        ignore_index: label of the pixels that are excluded from every sum and get no gradient; in [0,C) it excludes
            that class from the mean too. Default: 255. May also be given per call, there also as None.
        class_weight: list or tensor of C weights ≥ 0. Default: none.
        per_image: a loss per image and class (True), or per class over the whole batch. Default: True.
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
        >>> pred = torch.tensor([[[4.0, 4.0, -4.0, -4.0]]])  # one of three foreground pixels is missed
        >>> target = torch.tensor([[1, 1, 1, 0]])
        >>> TverskyLoss()(pred, target), TverskyLoss(alpha=0.3, beta=0.7)(pred, target)
        (tensor(0.1480), tensor(0.1941))

    References:
        Salehi et al., Tversky Loss Function for Image Segmentation Using 3D Fully Convolutional Deep Networks, MLMI
        2017, arXiv 1706.05721.

    Notes:
        ``alpha`` weights the false positives, as in the paper, MONAI and segmentation_models_pytorch; in ivadomed and
        in the code of the focal Tversky loss it weights the false negatives. With α = β = 0.5 it equals
        ``DiceLoss(naive_dice=True, smooth=2*s)``, as Tversky counts the true positives once and Dice twice; with
        α = β = 1 it equals `JaccardLoss`. Sums are in float32 or better: of 512² pixels
        in float16 segmentation_models_pytorch returns NaN. For soft targets TP is (Σp + Σg - Σ\|p-g\|)/2, so that the
        loss of a perfect soft prediction is 0.
    """

    function = tversky_loss
    example = examples.PIXELS.probabilities_if("activation", "none")

    def __init__(
        self, alpha: float = 0.5, beta: float = 0.5, smooth: float = 1.0, **options: Unpack[RegionOptions]
    ) -> None:
        super().__init__(**options)
        self.alpha = checks.number(self, "alpha", alpha, low=0)
        self.beta = checks.number(self, "beta", beta, low=0)
        self.smooth = checks.number(self, "smooth", smooth, low=0)
