"""The loss of Matthews' correlation coefficient (Abhishek & Hamarneh, ISBI 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor

from losses_core import LossOptions, Unreduced, examples
from losses_core.kernels import definition
from losses_seg._region import Region, loss_per_class, prepare_region, region
from losses_seg._region_loss import RegionLoss
from losses_seg._sync import SyncGroup
from losses_seg._targets import Activation, Classes


@definition(prepare=prepare_region, cast=False)
def mcc_loss(
    pred: Tensor,
    target: Tensor,
    *,
    ignore_index: int | None = 255,
    class_weight: Tensor | None = None,
    per_image: bool = True,
    classes: Classes = "present",
    include_background: bool = True,
    activation: Activation = "auto",
    group: SyncGroup | None = None,
) -> Unreduced:
    """Compute 1 minus the correlation of prediction and truth of each class, unreduced: see `MCCLoss`.

    Args:
        pred: logits (N,C,*S).
        target: class indices (N,*S) or (N,1,*S); one-hot or soft (N,C,*S).
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
        intersection="product",
        per_image=per_image,
        group=group,
    )
    return loss_per_class(
        1 - _correlation(sums),
        sums,
        classes=classes,
        ignore_index=ignore_index,
        include_background=include_background,
        class_weight=class_weight,
        group=group,
    )


def _correlation(sums: Region) -> Tensor:
    """Matthews' coefficient of shares of the pixels, which unlike products of four counts are at most 1.

    Where it is 0/0 it is 1 if nothing is wrong, else 0. Differences of counts come first: for a class of nearly all
    pixels, 1 minus its share would be rounded.
    """
    tp, p, g, pixels = sums
    total = pixels.clamp(min=1)
    wrong_p, wrong_g, p_rest, g_rest = p - tp, g - tp, pixels - p, pixels - g
    covariance = tp / total * ((p_rest - wrong_g) / total) - wrong_p / total * (wrong_g / total)
    variances = p / total * (p_rest / total) * (g / total * (g_rest / total))
    constant = variances <= 0
    nothing_wrong = (wrong_p == 0) & (wrong_g == 0)
    return torch.where(constant, nothing_wrong.to(p.dtype), covariance / variances.masked_fill(constant, 1).sqrt())


class MCCLoss(RegionLoss):
    r"""One minus Matthews' correlation coefficient of prediction and truth, for each class on its own.

    .. math::
        L_{nc} = 1 - \frac{TP \cdot TN - FP \cdot FN}{\sqrt{(TP+FP)(TP+FN)(TN+FP)(TN+FN)}}, \qquad
        TP = \sum_i p_{nci}\, g_{nci}

    and the other counts likewise, with 1 - p or 1 - g, over the pixels i that are not ignored; in [0, 2]. Mean:
    :math:`\sum w_c L_{nc} / \sum w_c` over the pairs of image and class that are counted.

    Use when: true negatives matter too, as where foreground may be small or large; beside cross-entropy, as an image
    without foreground gives no gradient.

    Args:
        ignore_index: label of the pixels that are excluded from every sum and get no gradient; in [0,C) it excludes
            that class from the mean too. Default: 255. May also be given per call, there also as None.
        class_weight: list or tensor of C weights ≥ 0. Default: none.
        per_image: a loss per image and class (True), or per class over the whole batch. Default: True.
        classes: ``'all'``; ``'present'``, those that occur in the image (or batch); or a list of ids. Default:
            ``'present'``, as the loss of an absent class is a constant.
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
        >>> loss = MCCLoss()
        >>> pred = torch.tensor([[[4.0, -4.0, -4.0, -4.0]]])
        >>> loss(pred, torch.tensor([[1, 0, 0, 0]])), loss(pred, torch.tensor([[0, 1, 1, 1]]))
        (tensor(0.0471), tensor(1.9529))

    References:
        Abhishek and Hamarneh, Matthews Correlation Coefficient Loss for Deep Convolutional Networks: Application to
        Skin Lesion Segmentation, ISBI 2021, doi 10.1109/ISBI48211.2021.9433782.

    Notes:
        Nothing is added to the counts. Where the root is 0 the loss is 0 if nothing is wrong and 1 otherwise, without a
        gradient, as scikit-learn has it; segmentation_models_pytorch, which adds a constant to each count, gives 0.5
        for an empty mask that is predicted empty. ``classes='all'`` has the values of MONAI. The authors and
        segmentation_models_pytorch sum over the batch: ``per_image=False``. Shares of pixels do not overflow: of 512²
        pixels in float16, logits and target, both libraries return NaN.
    """

    function = mcc_loss
    example = examples.PIXELS.probabilities_if("activation", "none")

    def __init__(
        self,
        ignore_index: int = 255,
        class_weight: Sequence[float] | Tensor | None = None,
        per_image: bool = True,
        classes: str | Sequence[int] = "present",
        include_background: bool = True,
        activation: Activation = "auto",
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(ignore_index, class_weight, per_image, classes, include_background, activation, **options)
