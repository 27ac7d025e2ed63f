"""What the distillation losses share: the teacher's tensor, the class axis, labels, the temperature, rows."""

from __future__ import annotations

import math
import numbers
from typing import Any, NoReturn

import torch
from torch import Tensor

from losses_core.errors import ConfigError, InputError
from losses_core.utils import checks
from losses_core.utils.weight_reduce import align


def teacher_of(target: Any, pred: Tensor, *, detach: bool = True) -> Tensor:
    """The teacher's tensor in the precision of ``pred``, without its graph and fit to be kept for a backward pass."""
    teacher: Tensor = checks.floating(checks.tensor("target", target))
    if detach:
        teacher = teacher.detach()
    # autograd refuses to keep a tensor made under inference_mode; the question itself does not trace
    if not torch.compiler.is_compiling() and teacher.is_inference() and not torch.is_inference_mode_enabled():
        teacher = teacher.clone()
    return teacher.to(pred.dtype)


def class_axis(logits: Tensor, class_dim: int | None) -> int:
    """The axis of the classes, counted from the front; never 0, which is the batch."""
    shape = tuple(logits.shape)
    if class_dim is None:
        if logits.ndim in (2, 4, 5):
            return 1
        if logits.ndim < 2:
            raise InputError(f"expected pred with a batch and a class axis, (N, C) or (N, C, *S); got {shape}.")
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


def check_labels(labels: Any, logits: Tensor, axis: int) -> Tensor:
    """Labels as int64, of the shape of the logits without the class axis."""
    index: Tensor = checks.index("labels", labels)
    shape = (*logits.shape[:axis], *logits.shape[axis + 1 :])
    checks.shape("labels", index, shape, reference=f"pred {tuple(logits.shape)} with the classes on axis {axis}")
    return index


def weight_on_logits(weight: Tensor, logits: Tensor, class_dim: int | None) -> Tensor | None:
    """A weight of the positions, viewed so that it broadcasts over the logits."""
    axis = class_axis(logits, class_dim)
    shape = [*logits.shape[:axis], *logits.shape[axis + 1 :]]
    aligned = align(weight, shape)
    return None if aligned is None else aligned.unsqueeze(axis)


def check_temperature(temperature: Any) -> None:
    """Refuse a temperature of a call that is neither a positive number nor a 0-d tensor."""
    if isinstance(temperature, Tensor):
        if temperature.ndim:  # its value is not looked at: that would wait for the device
            raise InputError(f"temperature: expected a number or a 0-d tensor; got shape {tuple(temperature.shape)}.")
        return
    known = isinstance(temperature, numbers.Real | torch.SymFloat) and not isinstance(temperature, bool)
    if not known or not 0 < temperature < math.inf:  # math.isfinite does not trace
        raise InputError(f"temperature: expected a number > 0; got {temperature!r}.")


def rows(name: str, features: Tensor) -> Tensor:
    """Features as (N,D): everything from axis 1 on is flattened."""
    if features.ndim < 2:
        raise InputError(f"expected {name} of shape (N, D) or (N, *); got {tuple(features.shape)}.")
    return features if features.ndim == 2 else features.flatten(1)


def row_pair(pred: Tensor, target: Any) -> tuple[Tensor, Tensor]:
    """Student and teacher as (N,D) and (N,E), of one batch."""
    target = teacher_of(target, pred)
    if pred.shape[:1] != target.shape[:1]:
        raise InputError(
            f"expected target with the samples of pred {tuple(pred.shape)} on axis 0; got {tuple(target.shape)}."
        )
    return rows("pred", pred), rows("target", target)


def refuse_weight() -> NoReturn:
    """A batch-level loss compares samples with each other: one of weight zero would still be in every comparison."""
    raise InputError(
        "takes no sample weight: it relates the samples of a batch; leave samples out of the batch instead."
    )
