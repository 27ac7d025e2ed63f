"""Arguments that the segmentation losses share: forms of the target, ignored pixels, classes, weights."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from losses_core.errors import ConfigError, InputError
from losses_core.utils import checks
from losses_core.utils.value_checks import check_labels, check_probabilities, warn_of_probabilities

Activation = Literal["auto", "softmax", "sigmoid", "none"]
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
Classes = str | Sequence[int]


def prepare_target(
    pred: Tensor, target: Tensor, ignore_index: int | None, activation: Activation
) -> tuple[Tensor, int | None, Activation]:
    """Check a target, and bring it to labels (N,*S), or to the shape of pred (N,C,*S).

    Args:
        pred: logits (N,C,*S).
        target: class indices (N,*S) or (N,1,*S); one-hot or soft (N,C,*S). For one channel (N,*S) is a mask.
        ignore_index: label of the ignored pixels; None: nothing is ignored.
        activation: as given, with ``'auto'``.

    Returns:
        The target, ``ignore_index`` (None where it is known to occur nowhere, and is no class), and the activation.
    """
    checks.floating(pred)
    checks.tensor("target", target)
    if pred.ndim < 3:
        raise InputError(f"expected pred of shape (N, C, *S), with one or more spatial axes; got {tuple(pred.shape)}.")
    n, c, *spatial = pred.shape
    shapes = (n, *spatial), (n, 1, *spatial), (n, c, *spatial)
    checks.shape("target", target, *shapes, reference=f"pred {tuple(pred.shape)}")
    activation = resolve(activation, c)
    if activation != "none":
        warn_of_probabilities(pred, 1 if activation == "softmax" else None)
    if c == 1:
        target = target.reshape(pred.shape)
        nothing_ignored = check_probabilities(target, ignore_index) is None
        return target, None if nothing_ignored else ignore_index, activation
    dense = target.ndim == pred.ndim and target.shape[1] == c
    if not dense:
        checks.index("target", target[:0])  # the dtype alone: an int64 copy could be larger than pred
        target = target.reshape(shapes[0])
    if ignore_index is not None and 0 <= ignore_index < c:  # a class, which leaves the mean even where it is absent
        if dense:
            check_probabilities(target)
        else:
            check_labels(target, c, None)
        return target, ignore_index, activation
    checked = check_probabilities(target, ignore_index) if dense else check_labels(target, c, ignore_index)
    return target, checked, activation  # type: ignore[return-value]  # it is the int that was given, or None


def is_labels(pred: Tensor, target: Tensor) -> bool:
    """Whether a prepared target holds class indices, without the axis of the classes."""
    return target.ndim < pred.ndim


def ignored_mask(pred: Tensor, target: Tensor, ignore_index: int | None, activation: Activation) -> Tensor | None:
    """True where a prepared target ignores a pixel (N,1,*S), or an element (N,C,*S); None: nothing is ignored.

    In a target of the shape of pred, a label in [0,C) ignores the pixels whose channel of that class is 1; any other
    value ignores the elements that hold it, and with a softmax, whose channels depend on each other, the whole pixel.
    """
    if ignore_index is None:
        return None
    if is_labels(pred, target):
        return equals(target, ignore_index).unsqueeze(1)
    if 0 <= ignore_index < target.shape[1] != 1:
        return target[:, ignore_index : ignore_index + 1] == 1
    ignored = equals(target, ignore_index)
    return ignored.any(1, keepdim=True) if activation == "softmax" else ignored


def equals(target: Tensor, value: int) -> Tensor:
    """Where ``target`` equals ``value``; nowhere if its dtype cannot hold it: torch would wrap -100 to 156 in uint8."""
    if not target.dtype.is_floating_point and target.dtype != torch.bool:
        limits = torch.iinfo(target.dtype)
        if not limits.min <= value <= limits.max:
            return torch.zeros_like(target, dtype=torch.bool)
    return target == value


def masked(x: Tensor, mask: Tensor | None, value: float = 0) -> Tensor:
    """``value`` where the mask is true."""
    return x if mask is None else x.masked_fill(mask, value)


def class_mask(labels: Tensor, classes: int, first: int = 0) -> Tensor:
    """(N,C,*S): whether each pixel has each label, of those from ``first`` on."""
    index = torch.arange(first, classes, device=labels.device)
    return labels.unsqueeze(1) == index.reshape(-1, *(1 for _ in labels.shape[1:]))


def selected_ids(
    number: int, classes: Classes, ignore_index: int | None, include_background: bool = True
) -> frozenset[int]:
    """The ids of the classes that the options select, absent ones too.

    One channel is the foreground: neither ``include_background`` nor ``ignore_index`` excludes it.
    """
    ids = frozenset(range(number) if isinstance(classes, str) else classes)
    return ids if number == 1 else ids - {ignore_index, *(() if include_background else (0,))}


def selected_classes(
    number: int,
    device: torch.device,
    classes: Classes,
    ignore_index: int | None,
    include_background: bool = True,
) -> Tensor | None:
    """The same as a bool tensor (C,); None: all of them."""
    ids = selected_ids(number, classes, ignore_index, include_background)
    if len(ids) == number:
        return None
    # by comparisons on the device: a list that is copied to it would be waited for
    listed = ids if 2 * len(ids) < number else frozenset(range(number)) - ids
    index = torch.arange(number, device=device)
    mask = torch.zeros_like(index, dtype=torch.bool)
    for one in sorted(listed):
        mask = mask | (index == one)
    return mask if listed is ids else ~mask


def resolve(activation: Activation, classes: int) -> Activation:
    """The activation that ``auto`` stands for."""
    if activation not in ACTIVATIONS:
        raise InputError(f"activation: expected one of {', '.join(map(repr, ACTIVATIONS))}; got {activation!r}.")
    if activation == "auto":
        return "softmax" if classes > 1 else "sigmoid"
    if activation == "softmax" and classes == 1:
        raise InputError("activation='softmax' of one channel is 1 everywhere; use 'sigmoid' or 'auto'.")
    return activation


def check_ids(pred: Tensor, classes: Classes) -> None:
    """Refuse ids that pred (N,C,*S) has no channel for."""
    if not isinstance(classes, str) and any(index >= pred.shape[1] for index in classes):
        raise InputError(
            f"classes: expected ids below {pred.shape[1]} for pred {tuple(pred.shape)}; got {list(classes)}."
        )


def only_present(classes: Classes) -> bool:
    """Whether the mean is over the classes that are present."""
    return isinstance(classes, str) and classes == "present"  # a compiler may not compare ids with a word


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
    """Check a sample weight of one number per image, for a loss that has a value for each image."""
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

    Args:
        pred: logits of one channel.
        target: a mask.
        several: name of the loss for several channels, for the error.
    """
    checks.floating(pred)
    checks.tensor("target", target)
    shape = pred.shape
    if pred.ndim > 2 and shape[1] == 1:
        checks.shape("target", target, (shape[0], *shape[2:]), shape, reference=f"pred {tuple(shape)}")
        return pred, target.reshape(shape)
    if pred.ndim > 1 and target.shape == shape:
        return pred.unsqueeze(1), target.unsqueeze(1)
    labels = pred.ndim > 2 and target.shape in ((shape[0], *shape[2:]), (shape[0], 1, *shape[2:]))
    hint = f" Several channels with class indices go to {several}." if labels else ""
    raise InputError(
        "expected pred of shape (N, 1, *S), or (N, *S) with a target of the same shape; "
        f"got pred {tuple(shape)} and target {tuple(target.shape)}.{hint}"
    )
