"""Arguments that the segmentation losses share: forms of the target, ignored pixels, classes, weights."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from losses_core.errors import ConfigError, InputError
from losses_core.utils import checks, host
from losses_core.utils.value_checks import check_labels, check_probabilities

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
    if c == 1:
        target = target.reshape(pred.shape)
        return target, check_probabilities(target, ignore_index), activation
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
    if not target.is_floating_point() and target.dtype != torch.bool:
        limits = torch.iinfo(target.dtype)
        if not limits.min <= value <= limits.max:
            return torch.zeros_like(target, dtype=torch.bool)
    return target == value


def masked(x: Tensor, mask: Tensor | None, value: float = 0) -> Tensor:
    """``value`` where the mask is true."""
    return x if mask is None else x.masked_fill(mask, value)


def class_mask(labels: Tensor, classes: int) -> Tensor:
    """(N,C,*S): whether each pixel has each label."""
    index = torch.arange(classes, device=labels.device)
    return labels.unsqueeze(1) == index.reshape(-1, *(1 for _ in labels.shape[1:]))


def selected_classes(
    number: int,
    device: torch.device,
    classes: Classes,
    ignore_index: int | None,
    include_background: bool = True,
) -> Tensor | None:
    """(C,) bool: the classes that the options select, absent ones too; None: all of them.

    One channel is the foreground: neither ``include_background`` nor ``ignore_index`` excludes it.
    """
    selected = set(range(number) if isinstance(classes, str) else classes)
    if number > 1:
        selected -= {ignore_index, *(() if include_background else (0,))}
    if len(selected) == number:
        return None
    # by comparisons on the device: a list that is copied to it would make the host wait
    listed = selected if 2 * len(selected) < number else set(range(number)) - selected
    index = torch.arange(number, device=device)
    mask = torch.zeros_like(index, dtype=torch.bool)
    for one in listed:
        mask = mask | (index == one)
    return mask if listed is selected else ~mask


class Target(NamedTuple):
    """A target as it was given, and what it leaves out.

    Attributes:
        values: class indices (N,*S) if ``index``, else one-hot or soft (N,C,*S).
        index: which of the two.
        ignored: true where a pixel, or with independent channels an element, is ignored: (N,1,*S) or (N,C,*S). None:
            it is known that nothing is.
        ignore_index: the label that says so.
    """

    values: Tensor
    index: bool  # type: ignore[assignment]  # in place of tuple.index, which nobody asks a target for
    ignored: Tensor | None
    ignore_index: int


def read_target(pred: Tensor, target: Tensor, ignore_index: int, activation: Activation = "auto") -> Target:
    """Tell the form of a target by its shape, and find what it ignores.

    For a target of the shape of ``pred`` a label in [0,C) ignores the pixels whose channel of that class is 1; any
    other value ignores the elements that hold it, or the whole pixel where a softmax ties the channels together.
    """
    values, index = read_form(pred, target)
    if index:
        ignored = held(values, ignore_index)
        return Target(values, True, None if ignored is None else ignored.unsqueeze(1), ignore_index)
    tied = resolve(activation, pred.shape[1]) == "softmax"
    return Target(values, False, left_out(values, ignore_index, tied), ignore_index)


def read_form(pred: Tensor, target: Tensor) -> tuple[Tensor, bool]:
    """Labels (N,*S), or a dense target (N,C,*S); and whether it is the former."""
    checks.tensor("target", target)
    if pred.ndim < 3:
        raise InputError(f"expected pred of shape (N, C, *S), with one or more spatial axes; got {tuple(pred.shape)}.")
    n, c, *spatial = pred.shape
    if target.shape == pred.shape:  # a usual case, without a detour
        return target, False
    shapes = (n, *spatial), (n, 1, *spatial), (n, c, *spatial)
    checks.shape("target", target, *shapes, reference=f"pred {tuple(pred.shape)}")
    if c == 1:
        return target.reshape(pred.shape), False
    checks.index("target", target)
    return target.reshape(shapes[0]), True


def left_out(values: Tensor, ignore_index: int, tied: bool) -> Tensor | None:
    """What a dense target (N,C,*S) ignores: elements, or where they are ``tied`` or say so together, pixels."""
    if 0 <= ignore_index < values.shape[1] != 1:
        return held(values[:, ignore_index : ignore_index + 1], 1)
    ignored = held(values, ignore_index)
    return ignored.any(1, keepdim=True) if ignored is not None and tied else ignored


def holds(target: Tensor, value: int) -> Tensor:
    """Where ``target`` equals ``value``; nowhere if its dtype cannot hold it: torch would wrap -100 to 156 in uint8."""
    if not target.is_floating_point() and target.dtype != torch.bool:
        limits = torch.iinfo(target.dtype)
        if not limits.min <= value <= limits.max:
            return torch.zeros_like(target, dtype=torch.bool)
    return target == value


def held(target: Tensor, value: int) -> Tensor | None:
    """The same; None where a glance tells that it is nowhere."""
    if not target.numel() or not host.on_host(target):
        return holds(target, value)
    # the usual label lies above all others: then one end of them tells
    if (value > 0 and target.amax().item() < value) or host.absent(value, target):
        return None
    return holds(target, value)


def safe_labels(labels: Tensor, ignore_index: int) -> Tensor:
    """Labels (N,*S) as int64 indices (N,1,*S) for gather and scatter, 0 where ignored."""
    return hide(labels.long(), held(labels, ignore_index)).unsqueeze(1)


def hide(x: Tensor, ignored: Tensor | None, value: float = 0) -> Tensor:
    """``value`` where ignored."""
    return x if ignored is None else x.masked_fill(ignored, value)


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
    if target.ignored is None:
        return torch.ones(target.values.shape[0], 1, dtype=torch.bool)
    if torch.compiler.is_compiling():
        # whole numbers and bools would make a loop of their own, and a slow one
        return torch.where(target.ignored, 0.0, 1.0).flatten(2).sum(2) > 0
    return ~target.ignored.flatten(2).all(2)


def included(pred: Tensor, classes: Classes, ignore_index: int, include_background: bool = True) -> Tensor:
    """(C,) bool: the classes that take part in the mean, before any is found absent.

    One channel is the foreground: there neither ``include_background`` nor ``ignore_index`` takes it out.
    """
    check_ids(pred, classes)
    return chosen(pred.shape[1], pred.device, classes, ignore_index, include_background)


def chosen(
    number: int, device: torch.device, classes: Classes, ignore_index: int, include_background: bool = True
) -> Tensor:
    """The same for a number of classes."""
    # built from comparisons on the device: a list copied to it would make the host wait
    index = torch.arange(number, device=device)
    taken = torch.ones_like(index, dtype=torch.bool)
    if not isinstance(classes, str):
        taken = torch.zeros_like(taken)
        for one in classes:
            taken = taken | (index == one)
    if number == 1:
        return taken
    taken = taken & (index != ignore_index)
    return taken if include_background else taken & (index != 0)


def check_ids(pred: Tensor, classes: Classes) -> None:
    """Refuse ids that pred (N,C,*S) has no channel for."""
    if not isinstance(classes, str) and max(classes) >= pred.shape[1]:
        raise InputError(
            f"classes: expected ids below {pred.shape[1]} for pred {tuple(pred.shape)}; got {list(classes)}."
        )


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
