"""Dice and a loss of pixels together: the sums of both from one activation and one mask."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core import Unreduced
from losses_core.errors import InputError
from losses_core.kernels import Prepared, definition
from losses_core.utils.focal import alpha_is_off, focal_elements
from losses_core.utils.stable import power
from losses_core.utils.weight_reduce import total_normalizer
from losses_seg._region import (
    Intersection,
    as_region,
    dice_distance,
    dice_intersection,
    loss_per_class,
    overlap_terms,
    prepare_region,
    sum_pixels,
)
from losses_seg._sync import SyncGroup
from losses_seg._targets import Classes, class_mask, ignored_mask, is_labels, masked

Reduction = Literal["mean", "sum"]


@definition(layout="classes")
def softmax_sums(
    pred: Tensor,
    target: Tensor,
    *,
    ignore_index: int | None,
    exponent: float,
    intersection: Intersection,
    gamma: float,
    smoothed: bool,
) -> Tensor:
    """Sum over the pixels of each image and class that are not ignored, of several channels.

    Args:
        pred: logits (N,C,*S).
        target: as `prepare_target` returns it.
        ignore_index: as `prepare_target` returns it.
        exponent: e ≥ 1.
        intersection: ``'product'`` p g, or ``'minimum'`` of p and g.
        gamma: focusing parameter γ ≥ 0; 0 is cross-entropy.
        smoothed: whether to sum -log p over all pixels too.

    Returns:
        (N,5,C): the intersection, Σ p^e, Σ g^e, the number of pixels, and -Σ g (1-p)^γ log p. With ``smoothed``
        (N,6,C): -Σ log p behind them.
    """
    ignored = ignored_mask(pred, target, ignore_index, "softmax")
    log_p = F.log_softmax(masked(pred, ignored), 1)
    p = masked(log_p.exp(), ignored)
    g = class_mask(target, pred.shape[1]) if is_labels(pred, target) else target
    g = masked(g.to(p.dtype), ignored)
    of_truth = log_p.masked_fill((g == 0) & (log_p == -torch.inf), 0)  # 0 · log 0 is 0
    terms = overlap_terms(p, g, ignored, exponent, intersection)
    terms.append(-g * power(-torch.expm1(of_truth), gamma) * of_truth)
    if smoothed:
        terms.append(-masked(log_p, ignored))
    return sum_pixels(terms)


@definition(layout="classes")
def sigmoid_sums(
    pred: Tensor,
    target: Tensor,
    *,
    ignore_index: int | None,
    exponent: float,
    intersection: Intersection,
    gamma: float,
    alpha: Tensor | float | None,
) -> Tensor:
    """Sum over the pixels of each image that are not ignored, of one channel.

    Args:
        pred: logits (N,1,*S).
        target: as `prepare_target` returns it.
        ignore_index: as `prepare_target` returns it.
        exponent: e ≥ 1.
        intersection: ``'product'`` p g, or ``'minimum'`` of p and g.
        gamma: focusing parameter γ ≥ 0; 0 is binary cross-entropy.
        alpha: weight of the positives, 1 - alpha that of the negatives; None: off.

    Returns:
        (N,5,1): the intersection, Σ p^e, Σ g^e, the number of pixels, and the sum of the focal losses.
    """
    ignored = ignored_mask(pred, target, ignore_index, "sigmoid")
    x, g = masked(pred, ignored), masked(target.to(pred.dtype), ignored)
    terms = overlap_terms(masked(x.sigmoid(), ignored), g, ignored, exponent, intersection)
    return sum_pixels([*terms, masked(focal_elements(x, g, alpha, gamma, None), ignored)])


def prepare_compound(pred: Any, target: Any, **options: Any) -> Prepared:
    """Check the arguments of a compound loss (`losses_core.kernels.Prepare`)."""
    pred, target, options = prepare_region(pred, target, **options, activation="auto")
    del options["activation"]
    if pred.shape[1] == 1:
        for name in ("class_weight", "label_smoothing"):
            given = options.get(name)
            if given is not None and not (isinstance(given, (float, int)) and given == 0):
                raise InputError(f"{name} has no meaning for one channel, pred {tuple(pred.shape)}: leave it out.")
    if options["reduction"] not in ("mean", "sum"):
        raise InputError(f"reduction: expected 'mean' or 'sum'; got {options['reduction']!r}.")
    return pred, target, options


def compound_loss(
    pred: Tensor,
    target: Tensor,
    *,
    dice_weight: float,
    pixel_weight: float,
    smooth: float,
    exponent: float,
    ignore_index: int | None,
    class_weight: Tensor | None,
    per_image: bool,
    classes: Classes,
    include_background: bool,
    reduction: Reduction,
    group: SyncGroup | None,
    gamma: float = 0.0,
    alpha: Tensor | float | None = None,
    label_smoothing: float = 0.0,
) -> Unreduced:
    """The sum of a Dice loss and of a loss of pixels, each reduced with its own normalizer: the share of each image.

    With ``per_image=False`` it is one number. The normalizer of a mean adds up to 1, as the value is divided already.
    """
    alpha = None if alpha_is_off(alpha) else alpha
    one_channel = pred.shape[1] == 1
    options: dict[str, Any] = {
        "ignore_index": ignore_index,
        "exponent": exponent,
        "intersection": dice_intersection(exponent),
        "gamma": gamma,
    }
    if one_channel:
        sums = sigmoid_sums(pred, target, alpha=alpha, **options)
    else:
        sums = softmax_sums(pred, target, smoothed=label_smoothing > 0, **options)
    if not per_image:
        sums = sums.sum(0) if group is None else group.sum(sums.sum(0))
    region, entropy = as_region(sums.narrow(-2, 0, 4), target), sums.select(-2, 4)
    dice, counted, _ = loss_per_class(
        dice_distance(region, smooth),
        region,
        classes=classes,
        ignore_index=ignore_index,
        include_background=include_background,
        class_weight=class_weight,
        group=group,
    )
    if alpha is not None and not one_channel:
        entropy = entropy * alpha
    entropy = _weighted_sum(entropy, class_weight)
    if label_smoothing:
        smoothed = _weighted_sum(sums.select(-2, 5), class_weight)
        entropy = (1 - label_smoothing) * entropy + label_smoothing / pred.shape[1] * smoothed
    pixels = region.pixels[..., 0]
    if class_weight is not None and is_labels(pred, target):
        pixels = _weighted_sum(region.target, class_weight)
    dice, normalizer = dice.sum(-1), None
    if reduction == "mean":
        total = total_normalizer(region.pred, counted)
        total = total.to(dice.dtype) if isinstance(total, Tensor) else dice.new_full((), total)
        totals = torch.stack([total, pixels.sum()])
        if per_image and group is not None:
            totals = group.sum(totals)
        dice_total, pixel_total = totals.masked_fill(totals <= 0, 1).unbind()
        dice, entropy, normalizer = dice / dice_total, entropy / pixel_total, pixels / pixel_total
    value = _times(dice_weight, dice) + _times(pixel_weight, entropy)
    return Unreduced(value, normalizer, already_global=group is not None and not per_image)


def _times(factor: float, x: Tensor) -> Tensor:
    return x if factor == 1 else factor * x


def _weighted_sum(of_classes: Tensor, class_weight: Tensor | None) -> Tensor:
    return (of_classes if class_weight is None else of_classes * class_weight.to(of_classes.dtype)).sum(-1)
