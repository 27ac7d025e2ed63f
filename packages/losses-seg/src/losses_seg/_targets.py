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
ACTIVATIONS: tuple[str, ...] = get_args(Activation)
Classes = str | Sequence[int]


class Target(NamedTuple):
    """A target as it was given, in one of two forms, and what it leaves out.

    Attributes:
        labels: class indices (N,*S) for several channels, else None.
        dense: one-hot or soft (N,C,*S), or the values 0 and 1 (N,1,*S) of one channel, else None.
        ignored: true where a pixel, or with independent channels an element, is ignored: (N,1,*S) or (N,C,*S).
        ignore_index: the label that says so.
    """

    labels: Tensor | None
    dense: Tensor | None
    ignored: Tensor
    ignore_index: int


def read_target(pred: Tensor, target: Tensor, ignore_index: int, activation: str = "auto") -> Target:
    """Tell the form of a target by its shape, and find what it ignores.

    For a target of the shape of ``pred`` a label in [0,C) ignores the pixels whose channel of that class is 1; any other
    value ignores the elements that hold it, or the whole pixel where a softmax ties the channels together.
    """
    checks.tensor("target", target)
    if pred.ndim < 3:
        raise InputError(f"expected pred of shape (N, C, *S), with one or more spatial axes; got {tuple(pred.shape)}.")
    n, c, *spatial = pred.shape
    shapes = (n, *spatial), (n, 1, *spatial), (n, c, *spatial)
    checks.shape("target", target, *shapes, reference=f"pred {tuple(pred.shape)}")
    if c == 1:
        dense = target.reshape(pred.shape)
        return Target(None, dense, holds(dense, ignore_index), ignore_index)
    if target.ndim == pred.ndim and target.shape[1] == c:
        if 0 <= ignore_index < c:
            return Target(None, target, target[:, ignore_index : ignore_index + 1] == 1, ignore_index)
        ignored = holds(target, ignore_index)
        if resolve(activation, c) == "softmax":
            ignored = ignored.any(1, keepdim=True)
        return Target(None, target, ignored, ignore_index)
    checks.index("target", target)
    labels = target.reshape(shapes[0])
    return Target(labels, None, holds(labels, ignore_index).unsqueeze(1), ignore_index)


def holds(target: Tensor, value: int) -> Tensor:
    """Where ``target`` equals ``value``; nowhere if its dtype cannot hold it (torch would wrap -100 to 156 in uint8)."""
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


def resolve(activation: str, classes: int) -> str:
    """The activation that ``auto`` stands for."""
    if activation not in ACTIVATIONS:
        raise InputError(f"activation: expected one of {', '.join(map(repr, ACTIVATIONS))}; got {activation!r}.")
    if activation == "auto":
        return "softmax" if classes > 1 else "sigmoid"
    if activation == "softmax" and classes == 1:
        raise InputError("activation='softmax' of one channel is 1 everywhere; use 'sigmoid' or 'auto'.")
    return activation


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
    if not classes or not all(isinstance(c, numbers.Integral) and c is not True and c is not False and c >= 0 for c in classes):
        raise ConfigError(f"{name}: classes: expected {expected}; got {classes!r}.")
    return classes


def image_weight(weight: Tensor, pred: Tensor, refused: str | None = None) -> Tensor:
    """Check a sample weight of one number per image; ``refused`` says why a loss takes none."""
    if refused is not None:
        raise InputError(f"takes no sample weight: {refused}.")
    if weight.shape != pred.shape[:1]:
        raise InputError(
            f"expected weight of shape {tuple(pred.shape[:1])}, one number per image, for pred {tuple(pred.shape)}; "
            f"got {tuple(weight.shape)}."
        )
    return weight


def ratio(numerator: Tensor, denominator: Tensor, otherwise: float = 0.0) -> Tensor:
    """``numerator / denominator``, and ``otherwise`` without a gradient where the denominator is 0; NaN stays NaN."""
    empty = denominator == 0
    return torch.where(empty, otherwise, numerator / denominator.masked_fill(empty, 1))
