"""Region losses: sums over the pixels of each image and class, and the losses that are made of them."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from losses_core import Unreduced
from losses_core.kernels import definition
from losses_core.utils.stable import power
from losses_seg._activation import probabilities
from losses_seg._sync import SyncGroup
from losses_seg._targets import (
    Activation,
    Classes,
    check_ids,
    class_mask,
    ignored_mask,
    is_labels,
    masked,
    only_present,
    prepare_target,
    selected_classes,
)

Intersection = Literal["product", "minimum"]


@definition(layout="classes")
def region_sums(
    pred: Tensor,
    target: Tensor,
    *,
    ignore_index: int | None,
    activation: Activation,
    exponent: float,
    intersection: Intersection,
    complement: bool,
) -> Tensor:
    """Sum over the pixels of each image and class that are not ignored.

    Args:
        pred: logits (N,C,*S).
        target: as `prepare_target` returns it.
        ignore_index: as `prepare_target` returns it.
        activation: ``'softmax'``, ``'sigmoid'`` or ``'none'``.
        exponent: e ≥ 1.
        intersection: ``'product'`` p g, or ``'minimum'`` of p and g; they differ for soft targets.
        complement: whether to sum 1 - p and 1 - g too; not for labels.

    Returns:
        (N,4,C): the intersection, Σ p^e, Σ g^e, and the number of pixels. With ``complement`` (N,8,C): the same of
        1 - p and 1 - g behind them.
    """
    ignored = ignored_mask(pred, target, ignore_index, activation)
    p = probabilities(pred, ignored, activation)
    g = class_mask(target, pred.shape[1]) if is_labels(pred, target) else target
    g = masked(g.to(p.dtype), ignored)
    terms = overlap_terms(p, g, ignored, exponent, intersection)
    if complement:
        terms += overlap_terms(masked(1 - p, ignored), masked(1 - g, ignored), ignored, exponent, intersection)
    return sum_pixels(terms)


def overlap_terms(
    p: Tensor, g: Tensor, ignored: Tensor | None, exponent: float, intersection: Intersection
) -> list[Tensor]:
    """What is summed: p g or their minimum, p^e, g^e, and 1; p and g are 0 where ignored."""
    valid = torch.ones_like(p[:, :1]) if ignored is None else (~ignored).to(p.dtype)
    both = p * g if intersection == "product" else torch.minimum(p, g)
    return [both, power(p, exponent), power(g, exponent), valid.expand_as(p)]


def sum_pixels(terms: list[Tensor]) -> Tensor:
    """Sum K terms (N,C,*S) over the pixels, (N,K,C)."""
    return torch.stack([term.flatten(2).sum(2) for term in terms], 1)


class Region(NamedTuple):
    """Sums over the pixels that are not ignored: of each image and class (N,C), or of each class of the batch (C,).

    Attributes:
        intersection: Σ p g, or Σ min(p,g).
        pred: Σ p^e.
        target: Σ g^e.
        pixels: their number, without a gradient.
    """

    intersection: Tensor
    pred: Tensor
    target: Tensor
    pixels: Tensor


def region(
    pred: Tensor,
    target: Tensor,
    *,
    ignore_index: int | None,
    activation: Activation,
    exponent: float = 1,
    intersection: Intersection = "minimum",
    complement: bool = False,
    per_image: bool = True,
    group: SyncGroup | None = None,
) -> Region:
    """The sums of prepared arguments; with ``per_image=False`` over the batch, which may be spread over a group.

    With ``complement`` the classes of 1 - p come first: one channel becomes two.
    """
    sums = region_sums(
        pred,
        target,
        ignore_index=ignore_index,
        activation=activation,
        exponent=exponent,
        intersection=intersection,
        complement=complement,
    )
    if complement:
        sums = torch.cat([sums[:, 4:], sums[:, :4]], 2)
    if not per_image:
        sums = sums.sum(0) if group is None else group.sum(sums.sum(0))
    return as_region(sums, target)


def as_region(sums: Tensor, target: Tensor) -> Region:
    """Name the four sums (…,4,C); those of a target that is not floating have no gradient."""
    if target.dtype.is_floating_point:
        both, p, g, pixels = sums.unbind(-2)
        return Region(both, p, g, pixels.detach())
    both, p = sums.narrow(-2, 0, 2).unbind(-2)
    return Region(both, p, *sums.detach().narrow(-2, 2, 2).unbind(-2))


def dice_intersection(exponent: float) -> Intersection:
    """For soft targets and e = 1 the minimum, so that the loss of a perfect prediction is 0."""
    return "minimum" if exponent == 1 else "product"


def dice_distance(sums: Region, smooth: float) -> Tensor:
    """1 - (2I + s) / (P + G + s)."""
    total = sums.pred + sums.target
    return total.sub(sums.intersection, alpha=2) / positive(total, smooth)


def positive(total: Tensor, smooth: float) -> Tensor:
    """A denominator ``total + smooth``, and 1 where it is 0, as the numerator is then."""
    return total + smooth if smooth else total.masked_fill(total == 0, 1)


def prepare_region(pred: Any, target: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Check the arguments of a region loss (`losses_core.kernels.Prepare`)."""
    target, ignore_index, activation = prepare_target(pred, target, options["ignore_index"], options["activation"])
    check_ids(pred, options.get("classes", "all"))
    return pred, target, {**options, "ignore_index": ignore_index, "activation": activation}


def loss_per_class(
    value: Tensor,
    sums: Region,
    *,
    classes: Classes,
    ignore_index: int | None,
    include_background: bool,
    class_weight: Tensor | None,
    group: SyncGroup | None,
) -> Unreduced:
    """Weight the loss of each class, and count in the mean those that the options select.

    A fully ignored image (or batch), whose value is 0, is not counted, nor with ``'present'`` a class that it lacks.
    """
    counted = selected_classes(value.shape[-1], value.device, classes, ignore_index, include_background)
    if only_present(classes):
        present = sums.target > 0
        counted = present if counted is None else counted & present
    if class_weight is not None:
        class_weight = class_weight.to(value.dtype).expand_as(value)
        value = value * class_weight
    if counted is not None:
        value = value.where(counted, 0)
    if ignore_index is not None:
        valid = sums.pixels > 0
        counted = valid if counted is None else counted & valid
    normalizer = class_weight if counted is None else counted.expand_as(value)
    if class_weight is not None and counted is not None:
        normalizer = class_weight.where(counted, 0)
    return Unreduced(value, normalizer, already_global=group is not None)
