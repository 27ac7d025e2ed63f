"""Lovasz losses: the convex surrogate of the Jaccard index (Berman et al., CVPR 2018, arXiv 1705.08790)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from torch import Tensor

from losses_core import LossOptions, Unreduced, examples
from losses_core.kernels import definition
from losses_core.utils import checks
from losses_core.utils.precision import upcast
from losses_core.utils.value_checks import values_are_checked
from losses_seg._activation import probabilities
from losses_seg._jaccard import class_share, mean_over_classes, surrogate, truth_of
from losses_seg._sync import BatchReducedLoss, SyncGroup
from losses_seg._targets import (
    ACTIVATIONS,
    Activation,
    Classes,
    check_classes,
    check_ids,
    class_mask,
    ignored_mask,
    is_labels,
    masked,
    one_channel,
    only_present,
    prepare_target,
)


def _prepare(pred: Any, target: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    target, ignore_index, activation = prepare_target(pred, target, options["ignore_index"], options["activation"])
    classes: Classes = options["classes"]
    check_ids(pred, classes)
    if only_present(classes) and not options["per_image"] and options["group"] is None and is_labels(pred, target):
        classes = _present_classes(target, pred.shape[1], ignore_index)
    return pred, target, {**options, "ignore_index": ignore_index, "activation": activation, "classes": classes}


def _present_classes(labels: Tensor, number: int, ignore_index: int | None) -> Classes:
    """The ids that occur, where values may be read: then no other class is computed."""
    if not values_are_checked(labels):
        return "present"
    index = labels.flatten().long()
    if ignore_index is not None:
        index = index.masked_fill(index == ignore_index, number)
    occurs = torch.zeros(number + 1, dtype=torch.bool, device=labels.device).scatter_(0, index, True)
    return tuple(c for c, present in enumerate(occurs[:number].tolist()) if present)


def _valid_images(
    pred: Tensor,
    target: Tensor,
    *,
    per_image: bool,
    ignore_index: int | None,
    activation: Activation = "none",
    **_: Any,
) -> Tensor | None:
    """The normalizer: whether an image has a pixel that is not ignored; None over the batch."""
    if not per_image:
        return None
    ignored = ignored_mask(pred, target, ignore_index, activation)
    return pred.new_ones(pred.shape[0], dtype=torch.bool) if ignored is None else ~ignored.flatten(1).all(1)


@definition(prepare=_prepare, normalizer=_valid_images, cast=False)
def lovasz_loss(
    pred: Tensor,
    target: Tensor,
    *,
    per_image: bool = False,
    ignore_index: int | None = 255,
    classes: Classes = "present",
    class_weight: Tensor | None = None,
    activation: Activation = "auto",
    group: SyncGroup | None = None,
) -> Tensor | Unreduced:
    """Compute the Lovasz loss of softmax probabilities, unreduced: see `LovaszLoss`.

    Args:
        pred: logits (N,C,*S).
        target: class indices (N,*S) or (N,1,*S); one-hot or soft (N,C,*S).
        per_image: a loss per image, or one of the whole batch.
        ignore_index: label of the pixels that are excluded; None: no pixel is.
        classes: ``'present'``, ``'all'`` or a list of ids.
        class_weight: (C,).
        activation: ``'auto'``, ``'softmax'``, ``'sigmoid'`` or ``'none'``.
        group: the processes that hold the batch together; given by the class under ``sync_dist``.

    Returns:
        The mean over the counted classes, (N,) or 0-d; as normalizer, per image, whether it has a pixel that is not
        ignored.
    """
    ignored = ignored_mask(pred, target, ignore_index, activation)
    p = probabilities(upcast(pred), ignored, activation)
    truth = truth_of(class_mask(target, pred.shape[1]) if is_labels(pred, target) else target, ignored, p.dtype)
    error = p - truth.to(p.dtype)
    flat = None if ignored is None else ignored.flatten(2)
    value, total = surrogate(error.flatten(2), truth.flatten(2), flat, per_image, group)
    value = mean_over_classes(value, class_share(total, classes, ignore_index, class_weight, value.dtype))
    if per_image:
        return value
    return value[0] if group is None else Unreduced(value[0], already_global=True)


def _prepare_hinge(pred: Any, target: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    pred, target = one_channel(pred, target, "LovaszLoss")
    target, ignore_index, _ = prepare_target(pred, target, options["ignore_index"], "none")
    return pred, target, {**options, "ignore_index": ignore_index}


@definition(prepare=_prepare_hinge, normalizer=_valid_images, cast=False)
def lovasz_hinge_loss(
    pred: Tensor,
    target: Tensor,
    *,
    per_image: bool = False,
    ignore_index: int | None = 255,
    group: SyncGroup | None = None,
) -> Tensor | Unreduced:
    """Compute the Lovasz hinge loss of one channel, unreduced: see `LovaszHingeLoss`.

    Args:
        pred: logits (N,1,*S), or (N,*S) with a target of the same shape.
        target: 0, 1 or ``ignore_index``, (N,*S) or (N,1,*S).
        per_image: a loss per image, or one of the whole batch.
        ignore_index: value of the pixels that are excluded; None: no pixel is.
        group: the processes that hold the batch together; given by the class under ``sync_dist``.

    Returns:
        (N,) or 0-d; as normalizer, per image, whether it has a pixel that is not ignored.
    """
    ignored = ignored_mask(pred, target, ignore_index, "none")
    truth, x = masked(target > 0.5, ignored), masked(upcast(pred), ignored)
    error = masked(torch.where(truth, -(1 - x).relu(), (1 + x).relu()), ignored)
    flat = None if ignored is None else ignored.flatten(2)
    value = surrogate(error.flatten(2), truth.flatten(2), flat, per_image, group)[0].squeeze(1)
    if per_image:
        return value
    return value[0] if group is None else Unreduced(value[0], already_global=True)


class LovaszLoss(BatchReducedLoss):
    r"""Lovasz-Softmax loss: the Jaccard index of each class, made convex and piecewise linear in the errors.

    .. math::
        L_c = \sum_k e_{(k)} \left( J_c(\{1..k\}) - J_c(\{1..k-1\}) \right), \qquad
        e_i = |p_{ci} - g_{ci}|, \qquad \text{loss} = \frac{\sum_c w_c L_c}{\sum_c w_c}

    with the errors in descending order and J the Jaccard loss of class c if the first k pixels were wrong.

    Use when: the mean IoU itself is the goal; fine-tuning after cross-entropy, or beside it.

    Args:
        per_image: a loss per image (True), or one of the whole batch, whose IoU is the usual metric. Default: False.
        ignore_index: label of the pixels that are excluded and get no gradient; in [0,C) it excludes that class too.
            Default: 255. May also be given per call, there also as None.
        classes: ``'present'`` averages the classes that occur in the batch (or image), ``'all'`` all, a list those ids.
            Default: ``'present'``.
        class_weight: list or tensor of C weights ≥ 0. Default: none.
        activation: ``'auto'`` (softmax for several channels, sigmoid for one), ``'softmax'``, ``'sigmoid'``, or
            ``'none'`` for a pred that holds probabilities. Default: ``'auto'``.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,C,*S), one or more spatial dims.
        - target: integer (N,*S) or (N,1,*S), in [0,C) or ``ignore_index``; or one-hot or soft (N,C,*S). For one channel
          the values 0, 1 and ``ignore_index``, or soft.
        - weight: (N,), with ``per_image``.

    Returns:
        0-d over the batch, whatever the reduction; with ``per_image`` the mean over images that are not fully ignored,
        the ``sum``, or (N,) for ``none``.

    Raises:
        InputError: a shape or a dtype that does not fit; a label outside [0,C) that is not ``ignore_index``; a sample
            weight without ``per_image``.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = LovaszLoss()
        >>> pred = torch.tensor([[[2.0, 2.0, 0.0], [0.0, 0.0, 2.0], [-9.0, -9.0, -9.0]]])
        >>> loss(pred, torch.tensor([[0, 0, 1]])), loss(pred, torch.tensor([[0, 1, 1]]))
        (tensor(0.1192), tensor(0.5000))

    References:
        Berman et al., The Lovasz-Softmax Loss: A Tractable Surrogate for the Optimization of the
        Intersection-Over-Union Measure in Neural Networks, CVPR 2018, arXiv 1705.08790.

    Notes:
        Value and gradient equal the authors' code, except that there ``classes is 'present'`` means all classes for a
        string from a config, and that a fully ignored image has a loss of 0 and is counted. With one channel class 1 is
        the truth, not class 0. Shapes are static: ignored pixels are sorted behind all others. The gradient is computed
        with the value, some classes at a time, and is all that is saved for backward.
    """

    function = lovasz_loss
    example = examples.PIXELS.probabilities_if("activation", "none")

    def __init__(
        self,
        per_image: bool = False,
        ignore_index: int = 255,
        classes: str | Sequence[int] = "present",
        class_weight: Sequence[float] | Tensor | None = None,
        activation: Activation = "auto",
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.per_image = checks.flag(self, "per_image", per_image)
        self.ignore_index = checks.number(self, "ignore_index", ignore_index, integer=True)
        self.classes = check_classes(self, classes)
        self._set_vector("class_weight", class_weight)
        self.activation = checks.choice(self, "activation", activation, ACTIVATIONS)


class LovaszHingeLoss(BatchReducedLoss):
    r"""Lovasz hinge loss: the Jaccard index of a binary mask, made convex in the hinge errors of the logits.

    .. math::
        L = \sum_k \max(e_{(k)}, 0) \left( J(\{1..k\}) - J(\{1..k-1\}) \right), \qquad e_i = 1 - x_i (2 g_i - 1)

    with the errors in descending order and J the Jaccard loss if the first k pixels were wrong.

    Use when: one structure against the rest and the IoU itself is the goal; after or beside binary cross-entropy.

    Args:
        per_image: a loss per image (True), or one of the whole batch. Default: False.
        ignore_index: value of the pixels that are excluded and get no gradient. Default: 255. May also be given per
            call, there also as None.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,1,*S), or (N,*S) with a target of the same shape.
        - target: (N,*S) or (N,1,*S) with the values 0, 1 and ``ignore_index``.
        - weight: (N,), with ``per_image``.

    Returns:
        0-d over the batch, whatever the reduction; with ``per_image`` the mean over images that are not fully ignored,
        the ``sum``, or (N,) for ``none``.

    Raises:
        InputError: a shape that does not fit; several channels with class indices; a value outside [0,1] that is not
            ``ignore_index``; a weight without ``per_image``.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = LovaszHingeLoss()
        >>> loss(torch.tensor([[[2.0, -2.0, 0.5]]]), torch.tensor([[1, 0, 0]]))
        tensor(0.7500)

    References:
        Berman et al., The Lovasz-Softmax Loss: A Tractable Surrogate for the Optimization of the
        Intersection-Over-Union Measure in Neural Networks, CVPR 2018, arXiv 1705.08790, section 3.1 (the hinge).

    Notes:
        Value and gradient equal the authors' code, except that a fully ignored image is not counted in the mean.
    """

    function = lovasz_hinge_loss
    channels = 1
    example = examples.MASKS

    def __init__(self, per_image: bool = False, ignore_index: int = 255, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.per_image = checks.flag(self, "per_image", per_image)
        self.ignore_index = checks.number(self, "ignore_index", ignore_index, integer=True)
