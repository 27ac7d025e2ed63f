"""Lovasz losses: the convex surrogate of the Jaccard index (Berman et al., CVPR 2018, arXiv 1705.08790)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor

from losses_core import LossOptions, Unreduced, examples
from losses_core.utils import checks
from losses_core.utils.precision import full_precision
from losses_seg._activation import probabilities
from losses_seg._jaccard import class_surrogate, hinge_surrogate
from losses_seg._jaccard_host import Wanted
from losses_seg._ranks import BatchLevel, Ranks
from losses_seg._targets import (
    ACTIVATIONS,
    Activation,
    Classes,
    check_classes,
    has_pixels,
    held,
    image_weight,
    included,
    one_channel,
    ratio,
    read_target,
)


@full_precision
def lovasz_loss(
    pred: Tensor,
    target: Tensor,
    *,
    per_image: bool = False,
    ignore_index: int = 255,
    classes: Classes = "present",
    class_weight: Tensor | None = None,
    activation: Activation = "auto",
    ranks: Ranks | None = None,
) -> Unreduced:
    """Lovasz loss of softmax probabilities, unreduced: see `LovaszLoss`.

    Args:
        pred: logits (N,C,*S).
        target: class indices (N,*S) or (N,1,*S); one-hot or soft (N,C,*S).
        per_image: a loss per image, or one of the whole batch.
        ignore_index: label whose pixels are left out.
        classes: ``'present'``, ``'all'`` or a list of ids.
        class_weight: (C,).
        activation: ``'auto'``, ``'softmax'``, ``'sigmoid'`` or ``'none'``.
        ranks: the processes that hold the batch together, where it is spread (set by the class under ``sync_dist``).

    Returns:
        The mean over the counted classes, (N,) or 0-d; as normalizer, per image, whether it has a pixel that is not ignored.
    """
    goal = read_target(pred, target, ignore_index, activation)
    p = probabilities(pred, goal.ignored, activation)
    ids = None if isinstance(classes, str) else classes
    loss = class_surrogate(p, goal, per_image, ranks, Wanted(classes == "present", ids))
    counted = included(pred, classes, ignore_index).expand_as(loss.value)
    if classes == "present":
        counted = counted & (loss.true > 0)
    share = counted.to(pred.dtype) if class_weight is None else class_weight.where(counted, 0)
    value = ratio((share * loss.value).where(counted, 0).sum(-1), share.sum(-1))
    return Unreduced(value, has_pixels(goal).any(1) if per_image else None, already_global=ranks is not None)


@full_precision
def lovasz_hinge_loss(
    pred: Tensor,
    target: Tensor,
    *,
    per_image: bool = False,
    ignore_index: int = 255,
    ranks: Ranks | None = None,
) -> Unreduced:
    """Lovasz hinge loss of one channel, unreduced: see `LovaszHingeLoss`.

    Args:
        pred: logits (N,1,*S), or (N,*S) with a target of the same shape.
        target: 0, 1 or ``ignore_index``, (N,*S) or (N,1,*S).
        per_image: a loss per image, or one of the whole batch.
        ignore_index: value whose pixels are left out.
        ranks: the processes that hold the batch together, where it is spread (set by the class under ``sync_dist``).

    Returns:
        (N,) or 0-d; as normalizer, per image, whether it has a pixel that is not ignored.
    """
    pred, target = one_channel(pred, target, "LovaszLoss")
    ignored, true = held(target, ignore_index), target > 0.5
    value = hinge_surrogate(pred, true if ignored is None else true & ~ignored, ignored, per_image, ranks)
    normalizer = ~ignored.flatten(1).all(1) if per_image and ignored is not None else None
    return Unreduced(value.squeeze(-1), normalizer, already_global=ranks is not None)


class LovaszLoss(BatchLevel):
    r"""Lovasz-Softmax loss: the Jaccard index of each class, made convex and piecewise linear in the errors.

    .. math::
        L_c = \sum_k e_{(k)} \left( J_c(\{1..k\}) - J_c(\{1..k-1\}) \right), \qquad
        e_i = |p_{ci} - g_{ci}|, \qquad \text{loss} = \frac{\sum_c w_c L_c}{\sum_c w_c}

    with the errors in descending order and J the Jaccard loss of class c if the first k pixels were wrong.

    Use when: the mean IoU itself is the goal; fine-tuning after cross-entropy, or beside it.

    Args:
        per_image: a loss per image (True), or one of the whole batch, whose IoU is the usual metric. Default: False.
        ignore_index: label whose pixels are left out and get no gradient; in [0,C) it takes that class out too.
            Default: 255. May also be given per call.
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
        InputError: a shape or a dtype that does not fit; a sample weight without ``per_image``.
        ConfigError: an option outside its range.
        RuntimeError: on the CPU, a label outside [0,C) that is not ``ignore_index``.

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
        Value and gradient equal the authors' code, whose ``classes is 'present'`` however means all classes for a
        string that comes from a config, and which counts a fully ignored image as a loss of 0. With one channel class 1
        is the truth, not class 0. Shapes are static: ignored pixels are sorted last, not taken out. It keeps twice the
        bytes of pred: probabilities and slope.
    """

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

    def _map_weight(self, weight: Tensor, pred: Tensor, target: Tensor) -> Tensor:
        return image_weight(weight, pred, self.per_image)

    def _forward(self, pred: Tensor, target: Tensor, *, ignore_index: int) -> Unreduced:
        return lovasz_loss(
            pred,
            target,
            per_image=self.per_image,
            ignore_index=ignore_index,
            classes=self.classes,
            class_weight=self._vector("class_weight", pred, pred.shape[1]),
            activation=self.activation,
            ranks=self._ranks(),
        )


class LovaszHingeLoss(BatchLevel):
    r"""Lovasz hinge loss: the Jaccard index of a binary mask, made convex in the hinge errors of the logits.

    .. math::
        L = \sum_k \max(e_{(k)}, 0) \left( J(\{1..k\}) - J(\{1..k-1\}) \right), \qquad e_i = 1 - x_i (2 g_i - 1)

    with the errors in descending order and J the Jaccard loss if the first k pixels were wrong.

    Use when: one structure against the rest and the IoU itself is the goal; after or beside binary cross-entropy.

    Args:
        per_image: a loss per image (True), or one of the whole batch. Default: False.
        ignore_index: value whose pixels are left out and get no gradient. Default: 255. May also be given per call.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,1,*S), or (N,*S) with a target of the same shape.
        - target: (N,*S) or (N,1,*S) with the values 0, 1 and ``ignore_index``.
        - weight: (N,), with ``per_image``.

    Returns:
        0-d over the batch, whatever the reduction; with ``per_image`` the mean over images that are not fully ignored,
        the ``sum``, or (N,) for ``none``.

    Raises:
        InputError: a shape that does not fit; several channels with class indices; a weight without ``per_image``.
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
        Value and gradient equal the authors' code, but for a fully ignored image, which is left out of the mean here.
    """

    example = examples.MASKS

    def __init__(self, per_image: bool = False, ignore_index: int = 255, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.per_image = checks.flag(self, "per_image", per_image)
        self.ignore_index = checks.number(self, "ignore_index", ignore_index, integer=True)

    def _map_weight(self, weight: Tensor, pred: Tensor, target: Tensor) -> Tensor:
        return image_weight(weight, pred, self.per_image)

    def _forward(self, pred: Tensor, target: Tensor, *, ignore_index: int) -> Unreduced:
        return lovasz_hinge_loss(pred, target, per_image=self.per_image, ignore_index=ignore_index, ranks=self._ranks())
