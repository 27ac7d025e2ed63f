"""Costs of every prediction with every target."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core import BaseLoss
from losses_core.errors import ConfigError, InputError, did_you_mean
from losses_core.utils import checks
from losses_core.utils.precision import autocast_active, upcast, without_autocast
from losses_core.utils.stable import power, ratio
from losses_core.utils.value_checks import check_labels, check_probabilities
from losses_det.iou_loss import CIoULoss, DIoULoss, EIoULoss, GIoULoss, IoULoss, SIoULoss
from losses_det.smooth_l1 import L1Loss, l1_loss

Field = Literal["labels", "boxes", "masks"]


class Cost(NamedTuple):
    """A cost.

    Attributes:
        function: ``function(pred, target, **options)`` gives (…,Q,M).
        field: what it compares.
        loss: the loss that it is, if there is one.
    """

    function: Callable[..., Tensor]
    field: Field
    loss: type[BaseLoss] | None = None


def pairwise_cost(name: str, pred: Tensor, target: Tensor, **options: Any) -> Tensor:
    r"""Cost of every prediction with every target.

    Half precision is computed in float32. The cost is differentiable.

    Args:
        name: what is compared, and how:

            - ``focal``: :math:`-\alpha (1-p)^\gamma \ln p + (1-\alpha) p^\gamma \ln(1-p)` with p the sigmoid of the
              logit of the target's class, its focal loss as a positive minus that as a negative; options ``alpha``
              0.25 and ``gamma`` 2.
            - ``softmax``: -p with p the probability of the target's class.
            - ``l1``: sum of the absolute differences of the coordinates.
            - ``iou``, ``giou``, ``diou``, ``ciou``, ``eiou``, ``siou``: the loss of that name; its options, such as
              ``bbox_format``.
            - ``mask_bce``: binary cross-entropy of the mask, the mean over its points.
            - ``mask_dice``: 1 - Dice coefficient; option ``smooth`` 1, added to numerator and denominator.

            The mask costs take ``spatial_dims``, the number of axes of a mask. It is needed for leading axes together
            with as many predictions as targets, as the shapes do not tell then.
        pred: logits (…,Q,C) for ``focal`` and ``softmax``; boxes (…,Q,4); logits of masks (…,Q,P) or (…,Q,H,W).
        target: labels (…,M); boxes (…,M,4); masks (…,M,P) or (…,M,H,W) in [0, 1]. Leading axes as of ``pred``.
        **options: as listed.

    Returns:
        (…,Q,M)

    Raises:
        InputError: an unknown name, wrong shapes, a label outside the classes, a mask outside [0, 1], an option
            outside its range. On an accelerator values are not looked at, and the cost of a wrong label is NaN.
        TypeError: an unknown option.

    Example:
        >>> import torch
        >>> boxes = torch.tensor([[0.5, 0.5, 1.0, 1.0], [0.5, 0.5, 0.5, 1.0]])
        >>> pairwise_cost("giou", boxes, boxes[:1], bbox_format="cxcywh")
        tensor([[0.0000],
                [0.5000]])
    """
    if name not in COSTS:
        raise InputError(
            f"expected one of {', '.join(COSTS)}; got {name!r}.{did_you_mean(name, COSTS)}", "pairwise_cost"
        )
    for option in options:
        if option not in options_of(name):
            raise TypeError(f"pairwise_cost: {unknown_option(name, option)}")
    try:
        check_limits(name, options)
        checks.tensor("pred", pred)
        checks.tensor("target", target)
        off = without_autocast(pred.device.type) if autocast_active(pred) else contextlib.nullcontext()
        with off:
            return COSTS[name].function(pred, target, **options)
    except (ConfigError, InputError) as error:
        raise InputError(error.text, f"pairwise_cost({name!r})") from error


def options_of(name: str) -> list[str]:
    """The options of a cost."""
    parameters = inspect.signature(COSTS[name].function).parameters.values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "pairwise"]


def unknown_option(name: str, option: str) -> str:
    """The text of an error."""
    known = options_of(name)
    has = f"It has {', '.join(known)}." if known else "It has none."
    return f"{name} has no option {option!r}.{did_you_mean(option, known) or f' {has}'}"


def check_limits(name: str, options: Mapping[str, Any]) -> None:
    """Check the numbers among the options of a cost that is no loss."""
    for option, value in options.items():
        if COSTS[name].loss is None and option in _LIMITS:
            low, high = _LIMITS[option]
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                limits = f">= {low}" if high == _LARGEST else f"in [{low}, {high}]"
                raise ConfigError(f"{option}: expected a number {limits}; got {value!r}.")


_LARGEST = sys.float_info.max
_LIMITS = {"alpha": (0, 1), "gamma": (0, _LARGEST), "smooth": (0, _LARGEST)}


# ---------------------------------------------------------------------------------------------------------- classes


def _focal(pred: Tensor, target: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    index, wrong = _class_index(pred, target)
    x = upcast(pred.gather(-1, index)).masked_fill(wrong, torch.nan)
    positive = power(torch.sigmoid(-x), gamma) * F.softplus(-x)
    negative = power(torch.sigmoid(x), gamma) * F.softplus(x)
    return alpha * positive - (1 - alpha) * negative


def _softmax(pred: Tensor, target: Tensor) -> Tensor:
    index, wrong = _class_index(pred, target)
    return -torch.softmax(upcast(pred), -1).gather(-1, index).masked_fill(wrong, torch.nan)


def _class_index(pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The class of each pair, (…,Q,M), inside the classes; and which of these it is not, (…,1,M)."""
    checks.floating(pred)
    labels = checks.index("target", target)
    if pred.ndim < 2 or labels.ndim != pred.ndim - 1 or labels.shape[:-1] != pred.shape[:-2]:
        raise InputError(
            "expected pred (…, Q, C) and target (…, M) with equal leading axes; "
            f"got {tuple(pred.shape)} and {tuple(target.shape)}."
        )
    classes = pred.shape[-1]
    verify_labels(labels, classes)
    labels = labels.unsqueeze(-2)
    inside = labels.clamp(0, max(classes - 1, 0))  # an index outside would end a process on an accelerator
    return inside.expand(*pred.shape[:-1], labels.shape[-1]), inside != labels


def verify_labels(labels: Tensor, classes: int, name: str = "target") -> None:
    """Check labels where values may be looked at."""
    try:
        check_labels(labels, classes, None, name=name)
    except InputError as error:
        raise InputError(f"{error.text} Classes count from 0; the background is no target.") from None


# ------------------------------------------------------------------------------------------------------------ boxes


def _l1(pred: Tensor, target: Tensor) -> Tensor:
    return l1_loss(pred, target, pairwise=True)


def _box_loss(loss: type[BaseLoss]) -> Cost:
    function: Any = loss.function

    def cost(pred: Tensor, target: Tensor, **options: Any) -> Tensor:
        value: Tensor = function(pred, target, pairwise=True, **options)
        return value

    cost.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return Cost(cost, "boxes", loss)


# ------------------------------------------------------------------------------------------------------------ masks


def _mask_bce(pred: Tensor, target: Tensor, *, spatial_dims: int | None = None) -> Tensor:
    # two products: softplus(x) - x of one would cancel for logits that are large and right
    x, t = _points(pred, target, spatial_dims)
    positive, negative = F.softplus(-x) @ t.mT, F.softplus(x) @ (1 - t).mT
    return (positive + negative) / max(x.shape[-1], 1)


def _mask_dice(pred: Tensor, target: Tensor, *, smooth: float = 1.0, spatial_dims: int | None = None) -> Tensor:
    x, t = _points(pred, target, spatial_dims)
    p = torch.sigmoid(x)
    total = p.sum(-1).unsqueeze(-1) + t.sum(-1).unsqueeze(-2)
    return 1 - ratio(2 * (p @ t.mT) + smooth, total + smooth, otherwise=1.0)


def _points(pred: Tensor, target: Tensor, spatial_dims: int | None) -> tuple[Tensor, Tensor]:
    """Logits (…,Q,P) and masks (…,M,P) in full precision."""
    checks.floating(pred)
    if spatial_dims is not None and spatial_dims < 1:
        raise InputError(f"spatial_dims: expected an integer >= 1; got {spatial_dims}.")
    shape, other = pred.shape, target.shape
    known = range(1, len(shape)) if spatial_dims is None else [spatial_dims]
    same_rank = len(shape) == len(other)
    fits = [
        s
        for s in known
        if same_rank and len(shape) > s and shape[-s:] == other[-s:] and shape[: -s - 1] == other[: -s - 1]
    ]
    if not fits:
        raise InputError(
            "expected pred (…, Q, P) or (…, Q, H, W), and target with M in the place of Q and all other axes equal; "
            f"got {tuple(shape)} and {tuple(other)}."
        )
    if len(fits) > 1:
        raise InputError(
            f"pred and target are both {tuple(shape)}: give spatial_dims, 1 if the last axis alone is a mask (points), "
            "2 if the last two are."
        )
    check_probabilities(target, name="masks", cure="Give masks as bool, or divide them by their maximum.")
    x = upcast(pred.flatten(-fits[0]))
    return x, target.flatten(-fits[0]).to(x.dtype)


COSTS: dict[str, Cost] = {
    "focal": Cost(_focal, "labels"),
    "softmax": Cost(_softmax, "labels"),
    "l1": Cost(_l1, "boxes", L1Loss),
    **{
        loss.__name__.removesuffix("Loss").lower(): _box_loss(loss)
        for loss in (IoULoss, GIoULoss, DIoULoss, CIoULoss, EIoULoss, SIoULoss)
    },
    "mask_bce": Cost(_mask_bce, "masks"),
    "mask_dice": Cost(_mask_dice, "masks"),
}
"""Name → cost."""
