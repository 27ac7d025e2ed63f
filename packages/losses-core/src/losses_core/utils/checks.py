"""Checks with one wording: what was expected, what came, what to do.

Constructor checks return the value unchanged, so that storing and checking are one line. They raise `ConfigError` for a
value outside its range and TypeError for a wrong type; call-time checks raise `InputError`.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from losses_core._suggest import did_you_mean, shown
from losses_core.errors import ConfigError, InputError
from losses_core.utils.precision import first_tensor

_T = TypeVar("_T")

_limits: ContextVar[dict[tuple[type, str], dict[str, Any]] | None] = ContextVar("_limits", default=None)


@contextmanager
def recorded() -> Iterator[dict[tuple[type, str], dict[str, Any]]]:
    """What the constructor checks inside ask for: (class, parameter) → limits in the words of JSON Schema.

    Example:
        >>> class Owner:
        ...     def __init__(self, gamma=2.0):
        ...         self.gamma = number(self, "gamma", gamma, low=0)
        >>> with recorded() as limits:
        ...     _ = Owner()
        >>> limits[Owner, "gamma"]
        {'minimum': 0}
    """
    limits: dict[tuple[type, str], dict[str, Any]] = {}
    token = _limits.set(limits)
    try:
        yield limits
    finally:
        _limits.reset(token)


def _record(owner: object, name: str, **limits: Any) -> None:
    if (record := _limits.get()) is not None:
        given = {word: limit for word, limit in limits.items() if limit is not None}
        record.setdefault((type(owner), name), {}).update(given)


def _fault(owner: object, name: str, expected: str, got: Any) -> str:
    kind = f" ({type(got).__name__})" if isinstance(got, str) else ""
    return f"{type(owner).__name__}: {name}: expected {expected}; got {shown(got)}{kind}."


def number(
    owner: object,
    name: str,
    value: Any,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    integer: bool = False,
) -> Any:
    """Check a finite number in [low, high] (above, below: open ends) and return it."""
    _record(owner, name, minimum=low, maximum=high, exclusiveMinimum=above, exclusiveMaximum=below)
    kind = "an integer" if integer else "a number"
    bounds = [(">=", low), (">", above), ("<=", high), ("<", below)]
    limits = " and ".join(f"{sign} {limit:g}" for sign, limit in bounds if limit is not None)
    expected = f"{kind} {limits}".rstrip()
    if isinstance(value, bool) or not isinstance(value, numbers.Integral if integer else numbers.Real):
        raise TypeError(_fault(owner, name, expected, value))
    value = cast(Any, value)  # mypy knows no order on numbers.Real
    inside = (
        _is_number_of_torch(value)
        and (low is None or value >= low)
        and (high is None or value <= high)
        and (above is None or value > above)
        and (below is None or value < below)
    )
    if not inside:
        if isinstance(value, int) and not _is_number_of_torch(value):
            expected += ", of at most 64 bits" if integer else ", an integer of at most 64 bits or a float"
        raise ConfigError(_fault(owner, name, expected, value))
    return value


def choice(owner: object, name: str, value: _T, choices: Sequence[_T]) -> _T:
    """Check that the value is one of the choices and return it."""
    _record(owner, name, enum=list(choices))
    if value not in choices:
        hint = did_you_mean(value, [c for c in choices if isinstance(c, str)]) if isinstance(value, str) else ""
        raise ConfigError(_fault(owner, name, f"one of {', '.join(map(repr, choices))}", value) + hint)
    return value


def flag(owner: object, name: str, value: Any) -> bool:
    """Check a bool and return it."""
    if not isinstance(value, bool):
        raise TypeError(_fault(owner, name, "True or False", value))
    return value


def text(owner: object, name: str, value: Any) -> str | None:
    """Check a string or None and return it."""
    if value is not None and not isinstance(value, str):
        raise TypeError(_fault(owner, name, "a string or None", value))
    return value


def vector(owner: object, name: str, value: Any) -> Any:
    """Check a per-class parameter (None, a number, a list of numbers, a 1-D tensor; finite, ≥ 0) and return it."""
    _record(owner, name, items={"minimum": 0})
    expected = "None, a number, or a list or 1-D tensor of finite numbers >= 0, one per class"
    if value is None:
        return None
    if isinstance(value, Tensor):
        if value.ndim != 1 or not value.numel() or not bool((value.isfinite() & (value >= 0)).all()):
            raise ConfigError(_fault(owner, name, expected, value))
        return value.detach()
    if isinstance(value, (int, float)):
        return number(owner, name, value)
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        raise TypeError(_fault(owner, name, expected, value))
    items: list[Any] = list(value)
    if not items or not all(_is_weight(x) for x in items):
        raise ConfigError(_fault(owner, name, expected, value))
    return value


def _is_weight(value: Any) -> bool:
    return isinstance(value, numbers.Real) and _is_number_of_torch(value) and bool(cast(Any, value) >= 0)


def _is_number_of_torch(value: Any) -> bool:
    """Whether a real number is finite and, if it is an integer, has at most 64 bits."""
    if isinstance(value, numbers.Integral):
        return -(1 << 63) <= int(value) < 1 << 63
    return math.isfinite(value)


def floating(pred: Any) -> Tensor:
    """Check that ``pred`` is a floating tensor and return it."""
    return _floating(tensor("pred", pred))


def first_floating(pred: Any) -> Tensor:
    """Check that ``pred`` is, or holds first, a floating tensor; return that tensor."""
    if isinstance(pred, Mapping) or (reference := first_tensor(pred)) is None:
        raise InputError(f"expected pred as a floating tensor (or a tuple of them); got {_kind(pred)}.")
    return _floating(reference)


def _floating(pred: Tensor) -> Tensor:
    if not pred.is_floating_point():
        raise InputError(f"expected a floating pred; got {pred.dtype}.")
    return pred


def tensor(name: str, value: Any) -> Tensor:
    """Check that an argument of a call is a tensor and return it."""
    if not isinstance(value, Tensor):
        raise InputError(f"expected {name} as a tensor; got {_kind(value, name)}.")
    return value


OUTPUTS = ("logits", "out", "pred", "preds", "predictions", "pred_logits", "output", "last_hidden_state")
"""What models call their predictions."""


def _kind(value: Any, name: str = "pred") -> str:
    """The type of what is no tensor, and where the tensor is in it if it is the output of a model."""
    kind = type(value).__name__
    if isinstance(value, Mapping):
        held = [key for key, item in value.items() if isinstance(item, Tensor)]
        key = next((key for key in OUTPUTS if key in held), held[0] if held else None)
        if key is None:
            return kind
        is_attribute = isinstance(key, str) and getattr(value, key, None) is value[key]
        return f"{kind}: give {name}{f'.{key}' if is_attribute else f'[{shown(key)}]'}"
    for key in OUTPUTS:
        if isinstance(getattr(value, key, None), Tensor):
            return f"{kind}: give {name}.{key}"
    if isinstance(value, (list, tuple)):
        held = [index for index, item in enumerate(value) if isinstance(item, Tensor)]
        return f"{kind}: give {name}[{held[0]}]" if held else kind
    return kind


def index(name: str, value: Any) -> Tensor:
    """Check that an argument of a call holds class indices (an integer tensor) and return it as int64."""
    value = tensor(name, value)
    if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
        raise InputError(
            f"expected {name} with class indices (an integer dtype such as torch.long); got {value.dtype}."
        )
    labels: Tensor = value.long()
    return labels


def same_shape(pred: Tensor, target: Tensor) -> None:
    """Check that pred and target have one shape: nothing broadcasts."""
    if pred.shape != target.shape:
        raise InputError(f"expected target of the shape of pred {tuple(pred.shape)}; got {tuple(target.shape)}.")


def shape(name: str, value: Tensor, *allowed: Sequence[int | str], reference: str = "") -> None:
    """Check a shape against the allowed ones; the text names them all and, if given, what they follow from.

    Example:
        >>> import torch
        >>> shape("target", torch.zeros(2, 3), (2, 4), reference="pred (2, 5, 4)")
        Traceback (most recent call last):
            ...
        losses_core.errors.InputError: expected target of shape (2, 4) for pred (2, 5, 4); got (2, 3).
    """
    # size by size, as a compiler that knows some sizes and not others compares tuples by what they are made of
    if any(len(s) == value.ndim and all(a == b for a, b in zip(s, value.shape, strict=True)) for s in allowed):
        return
    shown = [str(tuple(s)) for s in dict.fromkeys(tuple(s) for s in allowed)]
    listed = shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"
    context = f" for {reference}" if reference else ""
    raise InputError(f"expected {name} of shape {listed}{context}; got {tuple(value.shape)}.")
