"""The boundary loss: an F1 score of contours (Bokhovkin and Burnaev, ISNN 2019, arXiv 1905.07852)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Unpack

import torch
from torch import Tensor

from losses_core import BaseLoss, LossOptions, Unreduced, examples
from losses_core.errors import ConfigError, InputError
from losses_core.utils import checks, host
from losses_core.utils.autograd import Function
from losses_core.utils.precision import full_precision
from losses_seg._activation import probabilities
from losses_seg._targets import (
    ACTIVATIONS,
    Activation,
    Classes,
    Target,
    check_classes,
    has_pixels,
    held,
    hide,
    image_weight,
    included,
    is_class,
    over,
    ratio,
    read_target,
    safe_labels,
)
from losses_seg._window import window_max, window_max_slope


@full_precision
def boundary_loss(
    pred: Tensor,
    target: Tensor,
    *,
    theta0: int = 3,
    theta: int = 5,
    ignore_index: int = 255,
    classes: Classes = "present",
    activation: Activation = "auto",
) -> Unreduced:
    """Boundary loss of each image and class, unreduced: see `BoundaryLoss`.

    Args:
        pred: logits (N,C,*S).
        target: class indices (N,*S) or (N,1,*S); one-hot or soft (N,C,*S).
        theta0: side of the window that finds boundaries, odd.
        theta: side of the tolerance window, odd, ≥ ``theta0``.
        ignore_index: label whose pixels are no part of any boundary.
        classes: ``'present'``, ``'all'`` or a list of ids.
        activation: ``'auto'``, ``'softmax'``, ``'sigmoid'`` or ``'none'``.

    Returns:
        The loss (N,C), 0 where not counted; as normalizer, whether it is counted.
    """
    for name, side in (("theta0", theta0), ("theta", theta)):
        if side % 2 == 0 or side < 3:
            raise InputError(f"{name}: expected an odd integer >= 3; got {side}.")
    goal = read_target(pred, target, ignore_index, activation)
    p = probabilities(pred, goal.ignored, activation)
    hit_pred, length_pred, hit_true, length_true = _Overlap.apply(p, *goal, theta0, theta)
    precision, recall = ratio(hit_pred, length_pred), ratio(hit_true, length_true)
    value = 1 - ratio(2 * precision * recall, precision + recall)
    counted = has_pixels(goal) & included(pred, classes, ignore_index)
    if classes != "all":
        counted = counted & (length_true > 0)
    return Unreduced(value.where(counted, 0), counted)


def true_boundary(goal: Target, classes: int, theta0: int, dtype: torch.dtype) -> Tensor:
    """maxpool(1-g) - (1-g) of each class (N,C,*S), 0 where ignored; of indices without encoding them first."""
    if not goal.index:
        rest = hide(1 - goal.values.to(dtype), goal.ignored)
        return hide(window_max(rest, theta0) - rest, goal.ignored)
    # a pixel is on the boundary of its class where its window holds another label
    labels = goal.values.unsqueeze(1).to(dtype)
    highest = window_max(hide(labels, goal.ignored, -torch.inf), theta0)
    lowest = -window_max(hide(-labels, goal.ignored, -torch.inf), theta0)
    edge = hide((highest != lowest).to(dtype), goal.ignored)
    if torch.compiler.is_compiling():
        return torch.where(is_class(goal.values, classes), edge, 0)
    boundary = edge.new_zeros(edge.shape[0], classes, *edge.shape[2:])
    return boundary.scatter_(1, safe_labels(goal.values, goal.ignore_index), edge)


class _Boundaries(NamedTuple):
    """Of the truth: boundary and tolerance zone. Of the prediction: 1 - p, boundary. All (N,C,*S)."""

    true: Tensor
    zone: Tensor
    rest: Tensor
    pred: Tensor


@torch.no_grad()
def _boundaries(p: Tensor, goal: Target, theta0: int, theta: int) -> _Boundaries:
    true = true_boundary(goal, p.shape[1], theta0, p.dtype)
    # 0 at ignored pixels, where p is 0: no neighbour has a boundary because of them
    rest = 1 - p
    if goal.ignored is not None:
        rest -= goal.ignored.to(p.dtype)
    pred = window_max(rest, theta0) - rest
    if goal.ignored is not None:
        pred = host.zero_where_(pred, goal.ignored)
    return _Boundaries(true, window_max(true, theta), rest, pred)


class _Overlap(Function):
    """How much of each boundary lies in the zone of the other, and their lengths; keeps p and the target."""

    @staticmethod
    def forward(p: Tensor, *given: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        *goal, theta0, theta = given
        b = _boundaries(p, Target(*goal), theta0, theta)
        sums = (b.pred * b.zone, b.pred, b.true * window_max(b.pred, theta), b.true)
        hit_pred, length_pred, hit_true, length_true = (x.flatten(2).sum(2) for x in sums)
        return hit_pred, length_pred, hit_true, length_true

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        p, values, ctx.index, ignored, ctx.ignore_index, ctx.theta0, ctx.theta = inputs
        # with indices it is found anew
        ctx.save_for_backward(p, values, None if ctx.index else ignored)
        ctx.mark_non_differentiable(output[3])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        p, values, ignored = ctx.saved_tensors
        if ctx.index:
            whole = held(values, ctx.ignore_index)
            ignored = None if whole is None else whole.unsqueeze(1)
        b = _boundaries(p, Target(values, ctx.index, ignored, ctx.ignore_index), ctx.theta0, ctx.theta)
        hit_pred, length_pred, hit_true = (over(g, p) for g in grads[:3])
        slope = hit_pred * b.zone + length_pred + window_max_slope(b.pred, ctx.theta, hit_true * b.true)
        slope = hide(slope, ignored)
        # boundary = max(rest) - rest, rest = 1 - p
        return slope - window_max_slope(b.rest, ctx.theta0, slope), *(None for _ in range(6))


class BoundaryLoss(BaseLoss):
    r"""Boundary loss: one minus the F1 score of predicted and true contours, within a tolerance.

    .. math::
        L_{nc} = 1 - \frac{2 P R}{P + R}, \quad
        P = \frac{\sum b_p\, b_g^{ext}}{\sum b_p}, \quad R = \frac{\sum b_g\, b_p^{ext}}{\sum b_g}, \quad
        b = \operatorname{maxpool}_{\theta_0}(1-m) - (1-m), \quad b^{ext} = \operatorname{maxpool}_\theta(b)

    with the mask m the truth or the probability of class c in image n; P, R or the ratio is 0 where its denominator is.

    Use when: fine contours matter (medical images, buildings, instance masks), with cross-entropy or Dice, never alone:
    where the probabilities are uniform there is no boundary, and no gradient.

    Args:
        theta0: side in pixels of the window that finds boundaries, odd, ≥ 3. Default: 3.
        theta: side in pixels of the window within which boundaries agree, odd, ≥ ``theta0``. Default: 5.
        ignore_index: label whose pixels are no part of any boundary and get no gradient; in [0,C) it takes that class
            out too. Default: 255. May also be given per call.
        classes: ``'present'``; ``'all'``, where a class without a true boundary costs 1, as in the original; or a list
            of ids. But for ``'all'``, a class without a true boundary in the image is left out. Default: ``'present'``.
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
        InputError: a shape or a dtype that does not fit.
        ConfigError: an even window, one below 3, ``theta`` below ``theta0``.
        RuntimeError: on the CPU, a label outside [0,C) that is not ``ignore_index``.

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
        theta is the side of a window, not a decay. The well-known implementation counts a class that is absent from an
        image as a cost of 1. Gradients of equal maxima in a window are shared.
    """

    example = examples.PIXELS.probabilities_if("activation", "none")

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

    def _forward(self, pred: Tensor, target: Tensor, *, ignore_index: int) -> Unreduced:
        return boundary_loss(
            pred,
            target,
            theta0=self.theta0,
            theta=self.theta,
            ignore_index=ignore_index,
            classes=self.classes,
            activation=self.activation,
        )
