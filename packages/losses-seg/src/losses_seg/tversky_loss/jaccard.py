"""The Jaccard loss, with soft labels as in Wang, Ning & Blaschko (NeurIPS 2023, arXiv 2302.05666)."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor

from losses_core import Unreduced, examples
from losses_core.kernels import definition, delegate
from losses_core.utils import checks
from losses_seg._region_loss import RegionLoss, RegionOptions
from losses_seg._sync import SyncGroup
from losses_seg._targets import Activation, Classes
from losses_seg.tversky_loss.tversky import tversky_loss


@definition(delegates=True)
def jaccard_loss(
    pred: Tensor,
    target: Tensor,
    *,
    smooth: float = 1.0,
    ignore_index: int | None = 255,
    class_weight: Tensor | None = None,
    per_image: bool = True,
    classes: Classes = "all",
    include_background: bool = True,
    activation: Activation = "auto",
    group: SyncGroup | None = None,
) -> Unreduced:
    """Compute the Jaccard loss of each class, unreduced: see `JaccardLoss`. It is `tversky_loss` with α = β = 1.

    Args:
        pred: logits (N,C,*S).
        target: class indices (N,*S) or (N,1,*S); one-hot or soft (N,C,*S).
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
    return delegate(
        tversky_loss,
        pred,
        target,
        alpha=1.0,
        beta=1.0,
        smooth=smooth,
        ignore_index=ignore_index,
        class_weight=class_weight,
        per_image=per_image,
        classes=classes,
        include_background=include_background,
        activation=activation,
        group=group,
    )


class JaccardLoss(RegionLoss):
    r"""Jaccard loss: one minus the intersection over union of prediction and truth, for each class on its own.

    .. math::
        L_{nc} = 1 - \frac{I_{nc} + s}{\sum_i p_{nci} + \sum_i g_{nci} - I_{nc} + s}, \qquad
        I_{nc} = \sum_i p_{nci}\, g_{nci}

    over the pixels i that are not ignored; mean: :math:`\sum w_c L_{nc} / \sum w_c` over the pairs of image and class
    that are counted.

    Use when: segmentation is scored by IoU, and sorting all pixels for `LovaszLoss` takes too long; beside
    cross-entropy.

    Args:
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
        >>> loss = JaccardLoss(smooth=0.0)
        >>> pred = torch.tensor([[[1.0, -1.0], [-1.0, 1.0]]])
        >>> loss(pred, torch.tensor([[0, 1]])), loss(pred, torch.tensor([[1, 0]]))
        (tensor(0.2130), tensor(0.9366))

    References:
        Rahman and Wang, Optimizing Intersection-Over-Union in Deep Neural Networks for Image Segmentation, ISVC 2016;
        Wang, Ning and Blaschko, Jaccard Metric Losses: Optimizing the Jaccard Index with Soft Labels, NeurIPS 2023,
        arXiv 2302.05666.

    Notes:
        Equals ``TverskyLoss(alpha=1, beta=1)``, and MONAI's ``DiceLoss(jaccard=True)`` with smooth 2s.
        segmentation_models_pytorch sums over the batch (``per_image=False``) and sets the loss of an absent class to 0,
        but counts it in the mean; ``classes='present'`` excludes it from both. For soft targets I is
        (Σp + Σg - Σ\|p-g\|)/2, so that the loss of a perfect soft prediction is 0.
    """

    function = jaccard_loss
    example = examples.PIXELS.probabilities_if("activation", "none")

    def __init__(self, smooth: float = 1.0, **options: Unpack[RegionOptions]) -> None:
        super().__init__(**options)
        self.smooth = checks.number(self, "smooth", smooth, low=0)
