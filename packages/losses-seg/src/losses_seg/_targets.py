"""What the segmentation losses share: target forms, ignored pixels, counted classes, weights."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from losses_core.errors import ConfigError, InputError
from losses_core.utils import checks

Activation = Literal["auto", "softmax", "sigmoid", "none"]
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
Classes = str | Sequence[int]


class Target(NamedTuple):
    """A target as it was given, and what it leaves out.

    Attributes:
        values: class indices (N,*S) if ``index``, else one-hot or soft (N,C,*S).
        index: which of the two.
        ignored: true where a pixel, or with independent channels an element, is ignored: (N,1,*S) or (N,C,*S).
        ignore_index: the label that says so.
    """

    values: Tensor
    index: bool  # type: ignore[assignment]  # in place of tuple.index, which nobody asks a target for
    ignored: Tensor
    ignore_index: int


def read_target(pred: Tensor, target: Tensor, ignore_index: int, activation: Activation = "auto") -> Target:
    """Tell the form of a target by its shape, and find what it ignores.

    For a target of the shape of ``pred`` a label in [0,C) ignores the pixels whose channel of that class is 1; any
    other value ignores the elements that hold it, or the whole pixel where a softmax ties the channels together.
    """
    checks.tensor("target", target)
    if pred.ndim < 3:
        raise InputError(f"expected pred of shape (N, C, *S), with one or more spatial axes; got {tuple(pred.shape)}.")
    n, c, *spatial = pred.shape
    shapes = (n, *spatial), (n, 1, *spatial), (n, c, *spatial)
    checks.shape("target", target, *shapes, reference=f"pred {tuple(pred.shape)}")
    if c == 1:
        target = target.reshape(pred.shape)
    if target.ndim == pred.ndim - 1 or target.shape[1] != c:
        checks.index("target", target)
        labels = target.reshape(shapes[0])
        return Target(labels, True, holds(labels, ignore_index).unsqueeze(1), ignore_index)
    if 0 <= ignore_index < c != 1:
        return Target(target, False, target[:, ignore_index : ignore_index + 1] == 1, ignore_index)
    ignored = holds(target, ignore_index)
    if resolve(activation, c) == "softmax":
        ignored = ignored.any(1, keepdim=True)
    return Target(target, False, ignored, ignore_index)


def holds(target: Tensor, value: int) -> Tensor:
    """Where ``target`` equals ``value``; nowhere if its dtype cannot hold it: torch would wrap -100 to 156 in uint8."""
    if not target.is_floating_point() and target.dtype != torch.bool:
        limits = torch.iinfo(target.dtype)
        if not limits.min <= value <= limits.max:
            return torch.zeros_like(target, dtype=torch.bool)
    return target == value


def safe_labels(labels: Tensor, ignore_index: int) -> Tensor:
    """Labels (N,*S) as int64 indices (N,1,*S) for gather and scatter, 0 where ignored."""
    return labels.long().masked_fill(holds(labels, ignore_index), 0).unsqueeze(1)


def is_class(labels: Tensor, classes: int) -> Tensor:
    """(N,C,*S): whether each pixel has each label. For compiled code, which does not store it."""
    index = torch.arange(classes, device=labels.device)
    return labels.unsqueeze(1) == index.reshape(-1, *(1 for _ in labels.shape[1:]))


def resolve(activation: Activation, classes: int) -> Activation:
    """The activation that ``auto`` stands for."""
    if activation not in ACTIVATIONS:
        raise InputError(f"activation: expected one of {', '.join(map(repr, ACTIVATIONS))}; got {activation!r}.")
    if activation == "auto":
        return "softmax" if classes > 1 else "sigmoid"
    if activation == "softmax" and classes == 1:
        raise InputError("activation='softmax' of one channel is 1 everywhere; use 'sigmoid' or 'auto'.")
    return activation


def over(per_class: Tensor, p: Tensor) -> Tensor:
    """View (N,C) so that it multiplies (N,C,*S)."""
    return per_class.reshape(per_class.shape + (1,) * (p.ndim - 2))


def has_pixels(target: Target) -> Tensor:
    """(N,1) or (N,C): whether an image has a pixel that is not ignored."""
    return ~target.ignored.flatten(2).all(2)


def included(pred: Tensor, classes: Classes, ignore_index: int, include_background: bool = True) -> Tensor:
    """(C,) bool: the classes that take part in the mean, before any is found absent.

    One channel is the foreground: there neither ``include_background`` nor ``ignore_index`` takes it out.
    """
    c = pred.shape[1]
    # built from comparisons on the device: a list copied to it would make the host wait
    index = torch.arange(c, device=pred.device)
    chosen = torch.ones_like(index, dtype=torch.bool)
    if not isinstance(classes, str):
        if max(classes) >= c:
            raise InputError(f"classes: expected ids below {c} for pred {tuple(pred.shape)}; got {list(classes)}.")
        chosen = torch.zeros_like(chosen)
        for one in classes:
            chosen = chosen | (index == one)
    if c == 1:
        return chosen
    chosen = chosen & (index != ignore_index)
    return chosen if include_background else chosen & (index != 0)


def check_classes(owner: object, classes: Any, words: Sequence[str] = ("all", "present")) -> Any:
    """Check ``classes`` (one of the words, or a list of ids) and return it as given."""
    if isinstance(classes, str):
        return checks.choice(owner, "classes", classes, words)
    name = type(owner).__name__
    expected = f"one of {', '.join(map(repr, words))}, or a list of class ids >= 0"
    if not isinstance(classes, Sequence):
        raise TypeError(f"{name}: classes: expected {expected}; got {classes!r}.")
    if not classes or not all(
        not isinstance(c, bool) and isinstance(c, numbers.Integral) and int(c) >= 0 for c in classes
    ):
        raise ConfigError(f"{name}: classes: expected {expected}; got {classes!r}.")
    return classes


def image_weight(weight: Tensor, pred: Tensor, per_image: bool) -> Tensor:
    """Check a sample weight of one number per image, for a loss that keeps images apart."""
    if not per_image:
        raise InputError(
            "takes no sample weight with per_image=False, where images share their sums; use per_image=True."
        )
    if weight.shape != pred.shape[:1]:
        raise InputError(
            f"expected weight of shape {tuple(pred.shape[:1])}, one number per image, for pred {tuple(pred.shape)}; "
            f"got {tuple(weight.shape)}."
        )
    return weight


def one_channel(pred: Tensor, target: Tensor, several: str) -> tuple[Tensor, Tensor]:
    """Bring (N,1,*S), or (N,*S) with a target of the same shape, to (N,1,*S) both.

    ``several`` names the loss for several channels in the error for class indices.
    """
    checks.tensor("target", target)
    if pred.ndim > 2 and pred.shape[1] == 1:
        n, _, *spatial = pred.shape
        checks.shape("target", target, (n, *spatial), (n, 1, *spatial), reference=f"pred {tuple(pred.shape)}")
        return pred, target.reshape(pred.shape)
    if pred.ndim > 1 and target.shape == pred.shape:
        return pred.unsqueeze(1), target.unsqueeze(1)
    n, *rest = pred.shape
    hint = (
        f" Several channels with class indices go to {several}."
        if target.shape in ((n, *rest[1:]), (n, 1, *rest[1:]))
        else ""
    )
    raise InputError(
        "expected pred of shape (N, 1, *S), or (N, *S) with a target of the same shape; "
        f"got pred {tuple(pred.shape)} and target {tuple(target.shape)}.{hint}"
    )


def ratio(numerator: Tensor, denominator: Tensor, otherwise: float = 0.0) -> Tensor:
    """``numerator / denominator``, and ``otherwise`` without a gradient where the denominator is 0; NaN stays NaN."""
    empty = denominator == 0
    return torch.where(empty, otherwise, numerator / denominator.masked_fill(empty, 1))
