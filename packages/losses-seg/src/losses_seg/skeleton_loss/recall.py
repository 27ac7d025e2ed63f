"""The skeleton recall loss (Kirchhoff et al., ECCV 2024, arXiv 2404.03010)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from torch import Tensor

from losses_core import LossOptions, Unreduced, examples
from losses_core.errors import InputError
from losses_core.kernels import definition
from losses_core.utils import checks
from losses_core.utils.value_checks import check_labels, check_probabilities
from losses_seg._ops import truth_skeleton
from losses_seg._region import loss_per_class, positive, prepare_region, region
from losses_seg._sync import BatchReducedLoss, SyncGroup
from losses_seg._targets import ACTIVATIONS, Activation, Classes, check_classes, ignored_mask
from losses_seg.skeleton_loss.cldice import check_iterations, first_class


def _prepare(pred: Any, target: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    checks.floating(checks.tensor("pred", pred))
    check_iterations(options["iterations"])
    pred, target, prepared = prepare_region(pred, target, **options)
    if options["skeleton"] is not None:
        given = checks.tensor("skeleton", options["skeleton"]).detach()
        prepared["skeleton"] = _checked(pred, given, options["include_background"])
    return pred, target, prepared


def _checked(pred: Tensor, skeleton: Tensor, include_background: bool) -> Tensor:
    """Labels (N,*S), or the skeleton of each class (N,C,*S)."""
    n, c, *spatial = pred.shape
    shapes = (n, *spatial), (n, 1, *spatial), (n, c, *spatial)
    checks.shape("skeleton", skeleton, *shapes, reference=f"pred {tuple(pred.shape)}")
    if c == 1 or (skeleton.ndim == pred.ndim and skeleton.shape[1] == c):
        check_probabilities(skeleton, name="skeleton")
        return skeleton.reshape(pred.shape)
    if include_background:
        raise InputError(
            "skeleton: of labels, class 0 stands for no skeleton: use include_background=False, or a skeleton of each "
            f"class {tuple(pred.shape)}."
        )
    checks.index("skeleton", skeleton[:0])
    check_labels(skeleton, c, None, name="skeleton")
    return skeleton.reshape(shapes[0])


@definition(prepare=_prepare, cast=False)
def skeleton_recall_loss(
    pred: Tensor,
    target: Tensor,
    *,
    smooth: float = 1.0,
    iterations: int = 10,
    tube: int = 2,
    ignore_index: int | None = 255,
    class_weight: Tensor | None = None,
    per_image: bool = True,
    classes: Classes = "all",
    include_background: bool = False,
    activation: Activation = "auto",
    skeleton: Tensor | None = None,
    group: SyncGroup | None = None,
) -> Unreduced:
    """Compute the skeleton recall loss of each class, unreduced: see `SkeletonRecallLoss`.

    Args:
        pred: logits (N,C,*S).
        target: class indices (N,*S) or (N,1,*S); one-hot or soft (N,C,*S).
        smooth: s ≥ 0, in pixels.
        iterations: k ≥ 0 of the skeleton.
        tube: how often the skeleton is dilated.
        ignore_index: label of the pixels that are outside the image; None: no pixel is.
        class_weight: (C,).
        per_image: sums per image, or over the batch.
        classes: ``'all'``, ``'present'`` or a list of ids.
        include_background: whether class 0 takes part.
        activation: ``'auto'``, ``'softmax'``, ``'sigmoid'`` or ``'none'``.
        skeleton: the skeleton of the truth, where it is known already: labels (N,*S) or (N,1,*S), or (N,C,*S).
        group: the processes that hold the batch together; given by the class under ``sync_dist``.

    Returns:
        The loss (N,C), or (C,) over the batch, times the class weight; 0 where a class is not counted. As normalizer,
        the class weight where it is counted.
    """
    ignored = ignored_mask(pred, target, ignore_index, activation)
    if skeleton is None:
        first = first_class(pred, include_background)
        skeleton = truth_skeleton(pred, target, ignored, iterations, first=first, tube=tube)
        if first:
            skeleton = torch.cat([torch.zeros_like(skeleton[:, :1]), skeleton], 1)
    outside = None
    if ignored is not None:
        skeleton, outside = _with_ignored(skeleton, ignored, pred.shape[1])
    sums = region(
        pred,
        skeleton,
        ignore_index=outside,
        activation=activation,
        intersection="product",
        per_image=per_image,
        group=group,
    )
    value = (sums.target - sums.intersection) / positive(sums.target, smooth)  # 1 - (Σ pK + s) / (ΣK + s)
    return loss_per_class(
        value,
        sums,
        classes=classes,
        ignore_index=ignore_index,
        include_background=include_background,
        class_weight=class_weight,
        group=group,
    )


def _with_ignored(skeleton: Tensor, ignored: Tensor, classes: int) -> tuple[Tensor, int]:
    """A skeleton with a value at ignored pixels that is no class, and this value."""
    outside = max(255, classes)
    if not skeleton.is_floating_point() and (outside > 255 or skeleton.dtype == torch.int8):
        skeleton = skeleton.to(torch.int32)
    elif skeleton.dtype == torch.bool:
        skeleton = skeleton.to(torch.uint8)
    return skeleton.masked_fill(ignored if skeleton.ndim == ignored.ndim else ignored.squeeze(1), outside), outside


class SkeletonRecallLoss(BatchReducedLoss):
    r"""Skeleton recall loss: one minus the share of the true centre lines, widened to tubes, that is predicted.

    .. math:: L_{nc} = 1 - \frac{\sum_i p_{nci}\, K_{nci} + s}{\sum_i K_{nci} + s}

    with K the skeleton of the true mask, dilated ``tube`` times and cut to the mask.

    Use when: thin connected structures (vessels, roads, cracks), in large volumes and with several classes, where
    clDice takes too much time: no skeleton of the prediction is computed. With Dice or cross-entropy, never alone: a
    prediction that is foreground everywhere has loss 0.

    Args:
        smooth: s ≥ 0, in pixels; with 0, the loss of a class without a skeleton is 0. Default: 1.
        iterations: k ≥ 0 of the skeleton, half the width of the widest structure, in pixels. Default: 10.
        tube: how often the skeleton is dilated along the axes, ≥ 0. Default: 2.
        ignore_index: label of the pixels that are outside the image: they enter no sum, no minimum and no maximum, and
            get no gradient; in [0,C) it excludes that class too. Default: 255. May also be given per call, there also
            as None.
        class_weight: list or tensor of C weights ≥ 0. Default: none.
        per_image: a loss per image and class (True), or per class over the whole batch. Default: True.
        classes: ``'all'``; ``'present'``, those with a pixel of skeleton in the image (or batch); or a list of ids.
            Default: ``'all'``.
        include_background: whether class 0 takes part (one channel always does). Default: False.
        activation: ``'auto'`` (softmax for several channels, sigmoid for one), ``'softmax'``, ``'sigmoid'``, or
            ``'none'`` for a pred that holds probabilities. Default: ``'auto'``.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,C,*S), one or more spatial dims.
        - target: integer (N,*S) or (N,1,*S), in [0,C) or ``ignore_index``; or one-hot or soft (N,C,*S), with the mask
          where it is above 0.5. For one channel the values 0, 1 and ``ignore_index``, or soft.
        - weight: (N,), with ``per_image``.
        - skeleton (a keyword of the call): K, precomputed: (N,C,*S), bool, integer or in [0,1]; or labels (N,*S) or
          (N,1,*S), where class 0 stands for no skeleton. The target still says what is ignored.

    Returns:
        0-d for ``mean`` (Σ w L / Σ w over the pairs that are counted) and ``sum``; for ``none`` (N,C), or (C,) over the
        batch.

    Raises:
        InputError: a shape or a dtype that does not fit; a label outside [0,C) that is not ``ignore_index``; labels as
            skeleton with ``include_background=True``; a sample weight with ``per_image=False``.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = SkeletonRecallLoss(smooth=0.0)
        >>> line = torch.zeros(1, 1, 9, 9)
        >>> line[..., 4, :] = 1
        >>> broken = line.clone()
        >>> broken[..., 4, 4] = 0
        >>> loss(6 * line - 3, line), loss(6 * broken - 3, line)
        (tensor(0.0474), tensor(0.1480))

    References:
        Kirchhoff et al., Skeleton Recall Loss for Connectivity Conserving and Resource Efficient Segmentation of Thin
        Tubular Structures, ECCV 2024, arXiv 2404.03010.

    Notes:
        K is the morphological skeleton of each class, not skimage's thinning of the union of all classes: give the
        authors' as ``skeleton``. They return minus the recall; this is 1 plus that. No gradient reaches K.
    """

    function = skeleton_recall_loss
    example = examples.PIXELS.probabilities_if("activation", "none")

    def __init__(
        self,
        smooth: float = 1.0,
        iterations: int = 10,
        tube: int = 2,
        ignore_index: int = 255,
        class_weight: Sequence[float] | Tensor | None = None,
        per_image: bool = True,
        classes: str | Sequence[int] = "all",
        include_background: bool = False,
        activation: Activation = "auto",
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.smooth = checks.number(self, "smooth", smooth, low=0)
        self.iterations = checks.number(self, "iterations", iterations, low=0, integer=True)
        self.tube = checks.number(self, "tube", tube, low=0, integer=True)
        self.ignore_index = checks.number(self, "ignore_index", ignore_index, integer=True)
        self._set_vector("class_weight", class_weight)
        self.per_image = checks.flag(self, "per_image", per_image)
        self.classes = check_classes(self, classes)
        self.include_background = checks.flag(self, "include_background", include_background)
        self.activation = checks.choice(self, "activation", activation, ACTIVATIONS)
