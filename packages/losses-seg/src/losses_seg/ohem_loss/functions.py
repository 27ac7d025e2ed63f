"""Online hard example mining over pixels (Shrivastava et al., CVPR 2016, arXiv 1604.03540)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from losses_core import Unreduced
from losses_core.errors import InputError
from losses_core.kernels import definition
from losses_core.utils import checks
from losses_core.utils.value_checks import check_probabilities, warn_of_probabilities
from losses_seg._mining import check_rule, hard_limit
from losses_seg._pixels import pixel_binary_cross_entropy, pixel_cross_entropy
from losses_seg._sync import SyncGroup
from losses_seg._targets import ignored_mask, is_labels, masked, prepare_target


def _prepare_classes(pred: Any, target: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Labels (N,*S), or probabilities (N,C,*S); ``ignored`` says what is ignored."""
    check_rule(options["thresh"], options["min_kept"])
    n, *spatial = pixel_shape(pred)
    shapes = (n, *spatial), (n, 1, *spatial), tuple(pred.shape)
    checks.shape("target", checks.tensor("target", target), *shapes, reference=f"pred {tuple(pred.shape)}")
    rows = pred.ndim == 2  # (N,C) is one pixel per sample
    volume, target = (pred.unsqueeze(-1), target.unsqueeze(-1)) if rows else (pred, target)
    target, ignore_index, _ = prepare_target(volume, target, options["ignore_index"], "softmax")
    ignored = ignored_mask(volume, target, ignore_index, "softmax")
    ignored = None if ignored is None else ignored.squeeze(1)
    if rows:
        target, ignored = target.squeeze(-1), None if ignored is None else ignored.squeeze(-1)
    if options["ignored"] is not None:
        ignored = options["ignored"] if ignored is None else ignored | options["ignored"]
    return pred, target, {**options, "ignored": ignored}


@definition(layout="classes", prepare=_prepare_classes, cast=False)
def ohem_cross_entropy_loss(
    pred: Tensor,
    target: Tensor,
    *,
    thresh: float | None = 0.7,
    min_kept: int | float = 100000,
    ignore_index: int | None = 255,
    class_weight: Tensor | None = None,
    ignored: Tensor | None = None,
    group: SyncGroup | None = None,
) -> Unreduced:
    """Cross-entropy of the hard pixels, unreduced: see `OHEMCrossEntropyLoss`.

    Args:
        pred: logits (N,C,*S).
        target: class indices (N,*S) or (N,1,*S), or probabilities (N,C,*S).
        thresh: a pixel is hard whose true class has a probability below it, in (0,1]; None: the hardest alone.
        min_kept: keep the hardest K if fewer are hard: K itself ≥ 1, or a share of the pixels in (0,1].
        ignore_index: label of the ignored pixels; None: nothing is ignored.
        class_weight: (C,); mining uses the loss without it.
        ignored: bool (N,*S), true at further pixels to ignore.
        group: the processes that hold the batch together (set by the class under ``sync_dist``).

    Returns:
        (N,*S), 0 where not kept; as normalizer, the weight of the label where kept.
    """
    soft, share = not is_labels(pred, target), None
    if class_weight is not None and not soft:
        share = class_weight[masked(target, ignored).long()]
    value = pixel_cross_entropy(pred, target, class_weight=class_weight if soft else None, ignored=ignored)
    loss = value.detach()
    if class_weight is not None and soft:
        loss = pixel_cross_entropy(pred.detach(), target.detach(), ignored=ignored)
    hard = loss >= hard_limit(loss, thresh, min_kept, group)
    share = hard if share is None else share * hard
    return Unreduced(value * share, share)


def _prepare_binary(pred: Any, target: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Both without a single channel; elements that ``ignored`` names hold ``ignore_index`` as well."""
    check_rule(options["thresh"], options["min_kept"])
    shape = binary_shape(pred)
    target = checks.tensor("target", target)
    checks.shape("target", target, tuple(pred.shape), shape, reference=f"pred {tuple(pred.shape)}")
    pred, target = pred.reshape(shape), target.reshape(shape)
    ignore_index = check_probabilities(target, options["ignore_index"])
    warn_of_probabilities(pred)
    if options["ignored"] is not None:
        ignore_index = -1 if ignore_index is None else ignore_index
        target = target.to(torch.promote_types(target.dtype, torch.float32))
        target = target.masked_fill(options["ignored"], ignore_index)
    return pred, target, {**options, "ignore_index": ignore_index, "ignored": None}


@definition(layout="elements", prepare=_prepare_binary, cast=False)
def ohem_binary_loss(
    pred: Tensor,
    target: Tensor,
    *,
    thresh: float | None = 0.7,
    min_kept: int | float = 100000,
    ignore_index: int | None = 255,
    ignored: Tensor | None = None,
    group: SyncGroup | None = None,
) -> Unreduced:
    """Binary cross-entropy of the hard elements, unreduced: see `OHEMBinaryLoss`.

    Args:
        pred: logits (N,1,*S), (N,*S), or (N,C,*S) of several labels.
        target: 0, 1 or ``ignore_index``, or soft, of the shape of ``pred``; (N,*S) for ``pred`` (N,1,*S).
        thresh: an element is hard whose true class has a probability below it, in (0,1]; None: the hardest alone.
        min_kept: keep the hardest K if fewer are hard: K itself ≥ 1, or a share of the elements in (0,1].
        ignore_index: value of the ignored elements; None: nothing is ignored.
        ignored: bool of the shape of the result, true at further elements to ignore.
        group: the processes that hold the batch together (set by the class under ``sync_dist``).

    Returns:
        (N,*S), or (N,C,*S) for several labels, 0 where not kept; as normalizer, whether it is kept.
    """
    value = pixel_binary_cross_entropy(pred, target, ignore_index=ignore_index)
    loss = value.detach()
    hard = loss >= hard_limit(loss, thresh, min_kept, group)
    return Unreduced(value * hard, hard)


def pixel_shape(pred: Any) -> tuple[int, ...]:
    """The shape of the loss of several classes: that of ``pred`` without its classes."""
    checks.floating(checks.tensor("pred", pred))
    if pred.ndim < 2 or pred.shape[1] < 2:
        raise InputError(
            f"expected pred of shape (N, C, *S) with two or more classes; got {tuple(pred.shape)}. "
            "One channel goes to OHEMBinaryLoss."
        )
    return (pred.shape[0], *pred.shape[2:])


def binary_shape(pred: Any) -> tuple[int, ...]:
    """The shape of the binary loss: that of ``pred`` without a single channel."""
    checks.floating(checks.tensor("pred", pred))
    if pred.ndim < 2:
        raise InputError(f"expected pred of shape (N, 1, *S), (N, *S) or (N, C, *S); got {tuple(pred.shape)}.")
    n, *rest = pred.shape
    return (n, *rest[1:]) if rest and rest[0] == 1 else (n, *rest)
