"""The Hausdorff distance loss by distance transforms (Karimi and Salcudean, IEEE TMI 2019, arXiv 1904.10030)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, Unpack

import torch
from torch import Tensor

from losses_core import LossOptions, Unreduced, examples
from losses_core.errors import ConfigError, InputError
from losses_core.kernels import definition
from losses_core.utils import checks
from losses_seg import _ops
from losses_seg._activation import probabilities
from losses_seg._distance import is_spacing, steps_of
from losses_seg._pixel_loss import PixelLoss
from losses_seg._pixels import pixel_cross_entropy
from losses_seg._targets import (
    ACTIVATIONS,
    Activation,
    class_mask,
    ignored_mask,
    image_weight,
    is_labels,
    masked,
    prepare_target,
    selected_classes,
)

PredMask = Literal["argmax", "threshold"]
PRED_MASKS: tuple[PredMask, ...] = ("argmax", "threshold")


@definition(layout="classes", rows=("ignored",))
def weighted_squared_error(
    pred: Tensor, target: tuple[Tensor, Tensor], *, ignored: Tensor | None, activation: Activation
) -> Tensor:
    """Σ w (p-g)² of each image and class, (N,1,C).

    Args:
        pred: logits (N,C,*S).
        target: labels (N,*S) or a dense target (N,C,*S); and w (N,C,*S), 0 where ignored.
        ignored: bool (N,1,*S) or (N,C,*S); None: nothing is ignored.
        activation: ``'softmax'``, ``'sigmoid'`` or ``'none'``.
    """
    truth, weight = target
    p = probabilities(pred, ignored, activation)
    g = class_mask(truth, pred.shape[1]) if is_labels(pred, truth) else truth
    error = masked(p - g.to(p.dtype), ignored)
    return (error.square() * weight).flatten(2).sum(2).unsqueeze(1)


def _prepare(pred: Any, target: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """A target as `prepare_target` returns it, and one step per axis."""
    if options["pred_mask"] not in PRED_MASKS:
        raise InputError(
            f"pred_mask: expected one of {', '.join(map(repr, PRED_MASKS))}; got {options['pred_mask']!r}."
        )
    checks.floating(checks.tensor("pred", pred))
    target, ignore_index, activation = prepare_target(pred, target, options["ignore_index"], options["activation"])
    if options["target_dist"] is not None:
        given = checks.tensor("target_dist", options["target_dist"])
        checks.shape("target_dist", given, tuple(pred.shape), reference="pred")
    steps = steps_of(options["spacing"], pred.ndim - 2)
    return pred, target, {**options, "ignore_index": ignore_index, "activation": activation, "spacing": steps}


@definition(layout="batch", prepare=_prepare, cast=False)
def hausdorff_loss(
    pred: Tensor,
    target: Tensor,
    *,
    alpha: float = 2.0,
    ignore_index: int | None = 255,
    include_background: bool = True,
    pred_mask: PredMask = "argmax",
    one_sided: bool = False,
    spacing: float | Sequence[float] | None = None,
    activation: Activation = "auto",
    target_dist: Tensor | None = None,
) -> Unreduced:
    """Hausdorff distance loss of each image and class, unreduced: see `HDLoss`.

    Args:
        pred: logits (N,C,*S).
        target: class indices (N,*S) or (N,1,*S); one-hot or soft (N,C,*S).
        alpha: exponent of the distances > 0.
        ignore_index: label of the ignored pixels; None: nothing is ignored.
        include_background: whether class 0 takes part.
        pred_mask: ``'argmax'``, or ``'threshold'`` p > 0.5.
        one_sided: the distance to the true boundary alone.
        spacing: size of a pixel along each axis, one number or one per axis.
        activation: ``'auto'``, ``'softmax'``, ``'sigmoid'`` or ``'none'``.
        target_dist: distances to the true boundary (N,C,*S), where they are known already.

    Returns:
        The loss (N,C), 0 where not counted; as normalizer, whether it is counted.
    """
    ignored = ignored_mask(pred, target, ignore_index, activation)
    with torch.no_grad():
        regions = []
        if target_dist is None:
            regions.append(target if is_labels(pred, target) else target > 0.5)
        if not one_sided:
            regions.append(_predicted_region(pred, ignored, pred_mask, activation))
        weight = _distances(pred, regions, ignored, alpha, spacing, target_dist)
    value = weighted_squared_error(pred, (target, weight), ignored=ignored, activation=activation).squeeze(1)
    counted = selected_classes(pred.shape[1], pred.device, "all", ignore_index, include_background)
    pixels: Tensor | int = pred.shape[2:].numel()
    if ignored is not None:
        pixels = (~ignored).flatten(2).sum(2)
        counted = pixels > 0 if counted is None else counted & (pixels > 0)
        pixels = pixels.clamp(min=1)
    value = value / pixels
    if counted is None:
        return Unreduced(value)
    return Unreduced(value.where(counted, 0), counted.expand_as(value))


def _predicted_region(pred: Tensor, ignored: Tensor | None, pred_mask: PredMask, activation: Activation) -> Tensor:
    """Labels (N,*S), -1 where a pixel belongs to no class; or masks (N,C,*S), where it may belong to several."""
    if pred_mask == "threshold" or pred.shape[1] == 1:
        if activation != "softmax":
            return pred > (0.5 if activation == "none" else 0)
        labels = pred.max(1).indices.to(torch.int16)  # no other class can have a probability above a half
        return labels.masked_fill(pixel_cross_entropy(pred.detach(), labels) >= math.log(2), -1)
    if ignored is not None and ignored.shape[1] > 1:
        pred = pred.masked_fill(ignored, -torch.inf)  # single channels of a pixel
    return pred.max(1).indices.to(torch.int16)  # on a CPU ten times as fast as argmax


def _distances(
    pred: Tensor,
    regions: list[Tensor],
    ignored: Tensor | None,
    alpha: float,
    steps: Any,
    target_dist: Tensor | None,
) -> Tensor:
    """Σ d^α, (N,C,*S), 0 where ignored."""
    dtype = torch.float64 if pred.dtype == torch.float64 else torch.float32
    given = None if target_dist is None else masked(target_dist.detach().to(dtype).pow(alpha), ignored)
    if not regions:
        return given  # type: ignore[return-value]  # there is one of the two
    computed = _ops.boundary_distance(regions, pred.shape[1], ignored, steps, alpha, dtype)
    return computed if given is None else computed + given


class HDLoss(PixelLoss):
    r"""Hausdorff distance loss: squared errors, weighted by their distances to the contours.

    .. math::
        L_{nc} = \frac{1}{|\Omega_n|} \sum_{i \in \Omega_n} (p_i - g_i)^2 \left( d_g(i)^\alpha + d_p(i)^\alpha \right)

    over the pixels that are not ignored, with d the Euclidean distance to the nearest pixel on the other side of the
    true mask (d_g) or of the predicted one (d_p). No gradient passes through the distances.

    Use when: errors far from the contour must be removed, above all in medical images; with Dice, as its values are
    large (squared pixels) and say nothing about overlap.

    Args:
        alpha: exponent of the distances > 0. Default: 2.
        ignore_index: label of the pixels that are ignored: they have no error and no gradient, and no distance is
            measured to them; in [0,C) it excludes that class too. Default: 255. May also be given per call, also as
            None: nothing is ignored.
        include_background: whether class 0 is averaged too (one channel is always averaged). Default: True.
        pred_mask: the predicted mask: ``'argmax'``, or ``'threshold'`` p > 0.5, which one channel always uses.
            Default: ``'argmax'``.
        one_sided: d_g alone, the half that can be precomputed. Default: False.
        spacing: size of a pixel along each spatial axis, a number or a list, for distances in millimetres.
            Default: None, 1.
        activation: ``'auto'`` (softmax for several channels, sigmoid for one), ``'softmax'``, ``'sigmoid'``, or
            ``'none'`` for a pred that holds probabilities. Default: ``'auto'``.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,C,*S), one or more spatial dims.
        - target: integer (N,*S) or (N,1,*S), in [0,C) or ``ignore_index``; or one-hot or soft (N,C,*S), with the mask
          where it is above 0.5. For one channel the values 0, 1 and ``ignore_index``, or soft.
        - weight: (N,).
        - target_dist (a keyword of the call): d_g (N,C,*S), precomputed.

    Returns:
        0-d for ``mean`` (over the counted pairs of image and class) and ``sum``, (N,C) for ``none``.

    Raises:
        InputError: a shape or a dtype that does not fit, a spacing for another number of dims; on the CPU, a label
            outside [0,C) that is not ``ignore_index``.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = HDLoss()
        >>> pred = torch.tensor([[[-9.0, 9.0, -9.0, -9.0, -9.0, 9.0]]])
        >>> loss(pred, torch.tensor([[0, 1, 0, 0, 0, 0]]))
        tensor(2.8326)

    References:
        Karimi and Salcudean, Reducing the Hausdorff Distance in Medical Image Segmentation with Convolutional Neural
        Networks, IEEE TMI 2019, arXiv 1904.10030, the form with distance transforms.

    Notes:
        A mask that is true, or false, everywhere has no contour: its distances are 0. On the CPU the distances are
        computed by loops that read values to stop early; on other devices nothing is read. The result equals that of
        implementations that call scipy where no mask is full.
    """

    coupled = "image"
    example = examples.PIXELS.probabilities_if("activation", "none")
    function = hausdorff_loss

    def __init__(
        self,
        alpha: float = 2.0,
        ignore_index: int = 255,
        include_background: bool = True,
        pred_mask: PredMask = "argmax",
        one_sided: bool = False,
        spacing: float | Sequence[float] | None = None,
        activation: Activation = "auto",
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.alpha = checks.number(self, "alpha", alpha, above=0)
        self.ignore_index = checks.number(self, "ignore_index", ignore_index, integer=True)
        self.include_background = checks.flag(self, "include_background", include_background)
        self.pred_mask = checks.choice(self, "pred_mask", pred_mask, PRED_MASKS)
        self.one_sided = checks.flag(self, "one_sided", one_sided)
        if spacing is not None and not is_spacing(spacing):
            raise ConfigError(f"HDLoss: spacing: expected a number > 0, or a list of them; got {spacing!r}.")
        self.spacing = spacing
        self.activation = checks.choice(self, "activation", activation, ACTIVATIONS)

    def _map_weight(self, weight: Tensor, pred: Tensor, target: Tensor) -> Tensor:
        return image_weight(weight, pred, per_image=True)
