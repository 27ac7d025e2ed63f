"""The boundary loss: an F1 score of contours (Bokhovkin and Burnaev, ISNN 2019, arXiv 1905.07852)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from torch import Tensor

from losses_core import LossOptions, Unreduced, examples
from losses_core.errors import ConfigError, InputError
from losses_core.kernels import definition
from losses_core.utils import checks
from losses_core.utils.precision import upcast
from losses_seg._activation import activate
from losses_seg._pixel_loss import PixelLoss
from losses_seg._targets import (
    ACTIVATIONS,
    Activation,
    Classes,
    check_classes,
    check_ids,
    class_mask,
    ignored_mask,
    image_weight,
    is_labels,
    masked,
    prepare_target,
    selected_classes,
)
from losses_seg._window import max_pool


@definition(layout="batch", cast=False)
def contour_sums(
    pred: Tensor, target: Tensor, *, theta0: int, theta: int, ignore_index: int | None, activation: Activation
) -> Tensor:
    """Lengths of the contours of each image and class, and how much of each lies near the other.

    Args:
        pred: logits (N,C,*S).
        target: as `prepare_target` returns it.
        theta0: side of the window that finds contours.
        theta: side of the window within which contours agree.
        ignore_index: as `prepare_target` returns it.
        activation: ``'softmax'``, ``'sigmoid'`` or ``'none'``.

    Returns:
        (N,4,C): Σ b_p b_g^ext, Σ b_p, Σ b_g b_p^ext, Σ b_g.
    """
    ignored = ignored_mask(pred, target, ignore_index, activation)
    p = activate(masked(upcast(pred), ignored), activation)
    g = class_mask(target, pred.shape[1]) if is_labels(pred, target) else target

    def contour(mask: Tensor) -> Tensor:
        rest = masked(1 - mask, ignored)
        return masked(max_pool(rest, theta0) - rest, ignored)

    b_pred, b_true = contour(p), contour(g.to(p.dtype))
    maps = (b_pred * max_pool(b_true, theta), b_pred, b_true * max_pool(b_pred, theta), b_true)
    return torch.stack([x.flatten(2).sum(2) for x in maps], 1)


def _prepare(pred: Any, target: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """A target as `prepare_target` returns it."""
    for name in ("theta0", "theta"):
        if options[name] % 2 == 0 or options[name] < 3:
            raise InputError(f"{name}: expected an odd integer >= 3; got {options[name]}.")
    checks.floating(checks.tensor("pred", pred))
    target, ignore_index, activation = prepare_target(pred, target, options["ignore_index"], options["activation"])
    check_ids(pred, options["classes"])
    return pred, target, {**options, "ignore_index": ignore_index, "activation": activation}


@definition(layout="batch", prepare=_prepare, cast=False)
def boundary_loss(
    pred: Tensor,
    target: Tensor,
    *,
    theta0: int = 3,
    theta: int = 5,
    ignore_index: int | None = 255,
    classes: Classes = "present",
    activation: Activation = "auto",
) -> Unreduced:
    """Boundary loss of each image and class, unreduced: see `BoundaryLoss`.

    Args:
        pred: logits (N,C,*S).
        target: class indices (N,*S) or (N,1,*S); one-hot or soft (N,C,*S).
        theta0: side of the window that finds contours, odd.
        theta: side of the tolerance window, odd, ≥ ``theta0``.
        ignore_index: label whose pixels are no part of any contour; None: nothing is ignored.
        classes: ``'present'``, ``'all'`` or a list of ids.
        activation: ``'auto'``, ``'softmax'``, ``'sigmoid'`` or ``'none'``.

    Returns:
        The loss (N,C), 0 where not counted; as normalizer, whether it is counted.
    """
    sums = contour_sums(pred, target, theta0=theta0, theta=theta, ignore_index=ignore_index, activation=activation)
    near_true, length_pred, near_pred, length_true = sums.unbind(1)
    # 2 P R / (P + R) with P = near_true / length_pred, R = near_pred / length_true; all is 0 where one of them is
    both = near_true * length_true + near_pred * length_pred
    value = 1 - 2 * near_true * near_pred / both.masked_fill(both == 0, 1)
    counted = selected_classes(pred.shape[1], pred.device, classes, ignore_index)
    present = None
    if not isinstance(classes, str) or classes != "all":
        present = length_true > 0
    elif ignore_index is not None:
        ignored = ignored_mask(pred, target, ignore_index, activation)
        present = None if ignored is None else ~ignored.flatten(2).all(2)
    if present is not None:
        counted = present if counted is None else counted & present
    if counted is None:
        return Unreduced(value)
    return Unreduced(value.where(counted, 0), counted.expand_as(value))


class BoundaryLoss(PixelLoss):
    r"""Boundary loss: one minus the F1 score of predicted and true contours, within a tolerance.

    .. math::
        L_{nc} = 1 - \frac{2 P R}{P + R}, \quad
        P = \frac{\sum b_p\, b_g^{ext}}{\sum b_p}, \quad R = \frac{\sum b_g\, b_p^{ext}}{\sum b_g}

    .. math::
        b = \operatorname{maxpool}_{\theta_0}(1-m) - (1-m), \quad b^{ext} = \operatorname{maxpool}_\theta(b)

    with the mask m the truth or the probability of class c in image n; P, R or the ratio is 0 where its denominator is.

    Use when: fine contours matter (medical images, buildings, instance masks), with cross-entropy or Dice, never alone:
    where the probabilities are uniform there is no boundary, and no gradient.

    Args:
        theta0: side in pixels of the window that finds boundaries, odd, ≥ 3. Default: 3.
        theta: side in pixels of the window within which boundaries agree, odd, ≥ ``theta0``. Default: 5.
        ignore_index: label whose pixels are no part of any boundary and get no gradient; in [0,C) it excludes that
            class too. Default: 255. May also be given per call, also as None: nothing is ignored.
        classes: ``'present'``; ``'all'``, where the loss of a class without a true boundary is 1, as in the original;
            or a list of ids. Except with ``'all'``, a class without a true boundary in the image is excluded. Default:
            ``'present'``.
        activation: ``'auto'`` (softmax for several channels, sigmoid for one), ``'softmax'``, ``'sigmoid'``, or
            ``'none'`` for a pred that holds probabilities. Default: ``'auto'``.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,C,*S), one or more spatial dims.
        - target: integer (N,*S) or (N,1,*S), in [0,C) or ``ignore_index``; or one-hot or soft (N,C,*S). For one channel
          the values 0, 1 and ``ignore_index``, or soft.
        - weight: (N,).

    Returns:
        0-d for ``mean`` (over the counted pairs of image and class) and ``sum``, (N,C) for ``none``.

    Raises:
        InputError: a shape or a dtype that does not fit; on the CPU, a label outside [0,C) that is not
            ``ignore_index``.
        ConfigError: an even window, one below 3, ``theta`` below ``theta0``.

    Example:
        >>> import torch
        >>> loss = BoundaryLoss()
        >>> pred = torch.tensor([[[2.0, 2, 2, 2, -2, -2, -2, -2], [-2, -2, -2, -2, 2, 2, 2, 2]]])
        >>> loss(pred, torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1]])), loss(pred, torch.tensor([[0, 1, 1, 1, 1, 1, 1, 1]]))
        (tensor(0.0183), tensor(1.))

    References:
        Bokhovkin and Burnaev, Boundary Loss for Remote Sensing Imagery Semantic Segmentation, ISNN 2019, arXiv
        1905.07852.

    Notes:
        theta is the side of a window, not a decay. The well-known implementation gives a class that is absent from an
        image a loss of 1. Of equal maxima in a window the first gets the gradient, as in torch's ``max_pool``.
    """

    coupled = "image"
    example = examples.PIXELS.probabilities_if("activation", "none")
    function = boundary_loss

    def __init__(
        self,
        theta0: int = 3,
        theta: int = 5,
        ignore_index: int = 255,
        classes: str | Sequence[int] = "present",
        activation: Activation = "auto",
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.theta0 = checks.number(self, "theta0", theta0, low=3, integer=True)
        self.theta = checks.number(self, "theta", theta, low=3, integer=True)
        for name, side in (("theta0", theta0), ("theta", theta)):
            if side % 2 == 0:
                raise ConfigError(f"BoundaryLoss: {name}: expected an odd integer, the side of a window; got {side}.")
        if theta < theta0:
            raise ConfigError(f"BoundaryLoss: theta: expected an odd integer >= theta0={theta0}; got {theta}.")
        self.ignore_index = checks.number(self, "ignore_index", ignore_index, integer=True)
        self.classes = check_classes(self, classes)
        self.activation = checks.choice(self, "activation", activation, ACTIVATIONS)

    def _map_weight(self, weight: Tensor, pred: Tensor, target: Tensor) -> Tensor:
        return image_weight(weight, pred, per_image=True)
