"""Shared checks of the distillation losses: the teacher, the class axis, labels, the temperature, rows."""

from __future__ import annotations

import math
import numbers
from typing import Any, NoReturn

import torch
from torch import Tensor

from losses_core.errors import ConfigError, InputError
from losses_core.utils import checks, value_checks


def prepare_teacher(target: Any, *, detach: bool = True) -> Tensor:
    """Check the teacher's tensor, and detach it unless ``detach`` is False."""
    teacher: Tensor = checks.floating(checks.tensor("target", target))
    if detach:
        teacher = teacher.detach()
    # autograd cannot save a tensor made under inference_mode; is_inference() does not trace
    if not torch.compiler.is_compiling() and teacher.is_inference() and not torch.is_inference_mode_enabled():
        teacher = teacher.clone()
    return teacher


def class_axis(logits: Tensor, class_dim: int | None) -> int:
    """The axis of the classes, counted from the front; never 0, which is the batch."""
    shape = tuple(logits.shape)
    if logits.ndim < 2:
        raise InputError(f"expected pred with a batch and a class axis, (N, C) or (N, C, *S); got {shape}.")
    if class_dim is None:
        if logits.ndim in (2, 4, 5):
            return 1
        raise InputError(
            f"expected class_dim for pred of {logits.ndim} dims: class_dim=-1 where the classes come last, (N, L, C), "
            f"class_dim=1 where they come second, (N, C, L); got {shape} with class_dim=None."
        )
    axis = class_dim if class_dim >= 0 else logits.ndim + class_dim
    if not 1 <= axis < logits.ndim:
        raise InputError(f"class_dim={class_dim}: expected an axis of pred {shape} other than the first.")
    return axis


def check_class_dim(owner: object, class_dim: Any) -> int | None:
    """Check the constructor's ``class_dim`` and return it."""
    if class_dim is None:
        return None
    if checks.number(owner, "class_dim", class_dim, integer=True) == 0:
        raise ConfigError(f"{type(owner).__name__}: class_dim: expected an axis other than 0, the batch; got 0.")
    return int(class_dim)


def check_ignore_index(owner: object, ignore_index: Any) -> int | None:
    """Check the constructor's ``ignore_index`` and return it."""
    return None if ignore_index is None else int(checks.number(owner, "ignore_index", ignore_index, integer=True))


def prepare_logits(pred: Tensor, target: Any, options: dict[str, Any]) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Check the arguments of a loss of logits, and view the classes on axis 1.

    Args:
        pred: logits of the student.
        target: logits of the teacher.
        options: ``class_dim`` and ``temperature``; where the loss has them also ``teacher_detach``, and ``labels`` with
            ``ignore_index``, which is None in the result where no label equals it.
    """
    axis = class_axis(pred, options["class_dim"])
    target = prepare_teacher(target, detach=options.get("teacher_detach", True))
    checks.same_shape(pred, target)
    check_temperature(options["temperature"])
    if options.get("labels") is not None:
        labels = checks.index("labels", options["labels"])
        shape = (*pred.shape[:axis], *pred.shape[axis + 1 :])
        checks.shape("labels", labels, shape, reference=f"pred {tuple(pred.shape)} with the classes on axis {axis}")
        ignored = value_checks.check_labels(labels, pred.shape[axis], options["ignore_index"], name="labels")
        options = {**options, "labels": labels, "ignore_index": ignored}
    if axis != 1:
        pred, target = pred.movedim(axis, 1), target.movedim(axis, 1)
    return pred, target, options


def prepare_masked_logits(pred: Tensor, target: Any, options: dict[str, Any]) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """`prepare_logits` for a loss in which labels do nothing but mark what is ignored; None where nothing is."""
    pred, target, options = prepare_logits(pred, target, options)
    return pred, target, options if options["ignore_index"] is not None else {**options, "labels": None}


def count_labelled(pred: Tensor, target: Any, *, labels: Tensor | None, ignore_index: int, **_: Any) -> Tensor | None:
    """The normalizer of such a loss: 0 where ignored."""
    return None if labels is None else labels != ignore_index


def check_temperature(temperature: Any) -> None:
    """Check that a temperature is a positive number or a 0-d tensor."""
    if isinstance(temperature, Tensor):
        if temperature.ndim:  # reading its value would wait for the device
            raise InputError(f"temperature: expected a number or a 0-d tensor; got shape {tuple(temperature.shape)}.")
        return
    known = isinstance(temperature, (numbers.Real, torch.SymFloat)) and not isinstance(temperature, bool)
    if not known or not 0 < temperature < math.inf:  # math.isfinite does not trace
        raise InputError(f"temperature: expected a number > 0; got {temperature!r}.")


def flatten_rows(name: str, features: Tensor) -> Tensor:
    """Flatten features from axis 1 on to (N,D)."""
    if features.ndim < 2:
        raise InputError(f"expected {name} of shape (N, D) or (N, *); got {tuple(features.shape)}.")
    return features if features.ndim == 2 else features.flatten(1)


def prepare_rows(pred: Tensor, target: Any) -> tuple[Tensor, Tensor]:
    """Check the embeddings of student and teacher, and view them as (N,D) and (N,E)."""
    target = prepare_teacher(target)
    if pred.shape[:1] != target.shape[:1]:
        raise InputError(
            f"expected target with the samples of pred {tuple(pred.shape)} on axis 0; got {tuple(target.shape)}."
        )
    return flatten_rows("pred", pred), flatten_rows("target", target)


def refuse_weight() -> NoReturn:
    """Raise for a sample weight of a loss that is one number for the batch."""
    raise InputError(
        "takes no sample weight: it relates the samples of a batch; leave samples out of the batch instead."
    )
