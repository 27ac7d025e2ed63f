"""Checks of the values of a call: labels outside the classes, numbers that are no probabilities.

Values are looked at on the CPU, where nothing waits for a device, and on any device inside `debug`. Under
``torch.compile``, ``torch.export`` and ``torch.func`` they are not.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor

from losses_core.errors import InputError
from losses_core.utils.torch_compat import transforms_active

_PLAIN = (Tensor, torch.nn.Parameter)

_FEW = 8
"""Elements below which numbers in [0, 1] say nothing."""


class _Debug:
    active = bool(os.environ.get("LOSSES_DEBUG"))


@contextlib.contextmanager
def debug() -> Iterator[None]:
    """Check values on accelerators too inside the context, in every thread; each check waits for the device.

    Under ``sync_dist`` the ranks also compare which losses they sum.

    The environment variable ``LOSSES_DEBUG=1`` does the same for a process.

    Example:
        >>> with debug():
        ...     pass
    """
    before = _Debug.active
    _Debug.active = True
    try:
        yield
    finally:
        _Debug.active = before


def debug_active() -> bool:
    """Whether `debug` is active, and no compiler traces."""
    return _Debug.active and not torch.compiler.is_compiling()


def values_are_checked(tensor: Tensor) -> bool:
    """Whether the values of a tensor may be read."""
    if torch.compiler.is_compiling() or not (tensor.is_cpu or (_Debug.active and not tensor.is_meta)):
        return False
    return type(tensor) in _PLAIN and not transforms_active()


def check_labels(
    target: Tensor, classes: int, ignore_index: int | None, *, name: str = "target", extra: tuple[int, ...] = ()
) -> int | None:
    """Check that every label is in [0, classes), ``ignore_index``, or one of ``extra``.

    Args:
        target: class indices, any shape, an integer dtype.
        classes: number of classes C.
        ignore_index: label that is ignored; None: none is.
        name: what the tensor is called in the error.
        extra: further values that are allowed, such as C for background.

    Returns:
        ``ignore_index``, or None where it is known that no label equals it.

    Raises:
        InputError: with the first label that is not allowed, and where it is.
    """
    if not values_are_checked(target):
        return ignore_index
    if not target.numel():
        return None
    ends = target.aminmax()
    low, high = ends.min.item(), ends.max.item()
    if low >= 0 and high < classes:
        return ignore_index if ignore_index is not None and low <= ignore_index <= high else None
    allowed = (target >= 0) & (target < classes)
    for value in extra if ignore_index is None else (ignore_index, *extra):
        if low <= value <= high:
            allowed |= target == value
    if not allowed.all():
        raise _fault(
            name,
            target,
            ~allowed,
            f"class indices in [0, {classes})" + "".join(f", {value}" for value in extra),
            ignore_index,
            "",
        )
    return ignore_index if ignore_index is not None and low <= ignore_index <= high else None


def check_probabilities(
    tensor: Tensor, ignore_index: float | None = None, *, name: str = "target", cure: str = ""
) -> float | None:
    """Check that every finite element is in [0, 1], or equals ``ignore_index``; integer and bool tensors too.

    Args:
        tensor: any shape.
        ignore_index: value that is ignored; None: none is.
        name: what the tensor is called in the error.
        cure: what else to do about it, for the error.

    Returns:
        ``ignore_index``, or None where it is known that no element equals it.

    Raises:
        InputError: with the first element that is not allowed, and where it is.
    """
    if not values_are_checked(tensor):
        return ignore_index if ignore_index is None or _can_hold(tensor.dtype, ignore_index) else None
    if not tensor.numel() or tensor.dtype == torch.bool:
        return ignore_index if ignore_index in (0, 1) and tensor.numel() else None
    ends = tensor.aminmax()
    low, high = ends.min.item(), ends.max.item()
    if not (low >= 0 and high <= 1):  # NaN is neither
        allowed = ((tensor >= 0) & (tensor <= 1)) | ~tensor.isfinite()  # these show in the loss
        if ignore_index is not None and _can_hold(tensor.dtype, ignore_index):
            allowed |= tensor == ignore_index
        if not allowed.all():
            raise _fault(name, tensor, ~allowed, "numbers in [0, 1]", ignore_index, cure)
        return ignore_index
    return ignore_index if ignore_index is not None and low <= ignore_index <= high else None


def warn_of_probabilities(pred: Tensor, axis: int | None = None) -> None:
    """Warn inside `debug` where logits look like probabilities: a softmax or sigmoid would be applied twice.

    Args:
        pred: logits.
        axis: the axis that a softmax sums over, where the values must sum to 1 too; None: a sigmoid.
    """
    if not (debug_active() and values_are_checked(pred)) or pred.numel() < _FEW:
        return
    low, high = (end.item() for end in pred.detach().aminmax())
    if not 0 <= low < high <= 1:
        return
    if axis is not None and not torch.allclose(pred.detach().double().sum(axis), pred.new_ones(()).double(), atol=1e-2):
        return
    name, inverse, sums = "softmax", "log", f" and sum to 1 along axis {axis}"
    if axis is None:
        name, inverse, sums = "sigmoid", "logit", ""
    warnings.warn(
        f"pred looks like probabilities: its values are in [{low:.3g}, {high:.3g}]{sums}. The loss takes logits and "
        f"applies a {name}. Leave the {name} out of the model, or give pred.{inverse}().",
        stacklevel=2,
    )


def _can_hold(dtype: torch.dtype, value: float) -> bool:
    """Whether a dtype holds a value: torch would compare uint8 with -100 as with 156."""
    if dtype.is_floating_point:
        return True
    if dtype == torch.bool:
        return value in (0, 1)
    limits = torch.iinfo(dtype)
    return limits.min <= value <= limits.max


def _fault(
    name: str, tensor: Tensor, wrong: Tensor, expected: str, ignore_index: float | None, cure: str
) -> InputError:
    position = tuple(int(i) for i in wrong.nonzero()[0])
    value = tensor[position].item()
    where = f" at {list(position)}" if position else ""
    also = "" if ignore_index is None else f" or ignore_index={ignore_index}"
    hint = cure if ignore_index is None else f"If {value} marks what is to be ignored, set ignore_index={value}. {cure}"
    return InputError(
        f"expected {name} with {expected}{also}; got {value}{where} ({int(wrong.sum())} such elements). {hint}".strip()
    )
