"""Check config values against the annotations of a constructor."""

from __future__ import annotations

import collections.abc
import re
import types
import typing
from typing import Any

NUMBER = r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?"
"""A number as YAML may leave it, a string; the same to Python and to a JSON Schema."""

_SEQUENCES = (list, tuple, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
_NUMERIC: dict[type, str] = {float: "a number", int: "an integer", bool: "true or false", type(None): "null"}
_BY_NAME = {"float": float, "int": int, "bool": bool, "str": str, "None": type(None)}


def read_numbers(value: Any, annotation: Any) -> Any:
    """`value` with its strings read as floats where the annotation says float (and not str as well).

    YAML 1.1 reads `1e-6` as a string: without a dot it is no number there. Where the annotation says int, a float such
    as JSON's `1e5` is an int if it is a whole number (0.0 and 1.0 stay floats where both are allowed: a share).

    Example:
        >>> read_numbers("1e-6", float | None), read_numbers("1e-6", str | float), read_numbers(["1e-6"], list[float])
        (1e-06, '1e-6', [1e-06])
        >>> read_numbers("1e5", int | float), read_numbers(1e5, int), read_numbers(1.0, int | float)
        (100000, 100000, 1.0)
    """
    arms = arms_of(annotation)
    if isinstance(value, str):
        if float not in arms or str in arms or not re.fullmatch(NUMBER, value):
            return value
        value = float(value)
    if isinstance(value, float):
        whole = value.is_integer() and (float not in arms or abs(value) > 1)
        return int(value) if int in arms and whole else value
    if isinstance(value, (list, tuple)):
        for arm in arms:
            if typing.get_args(arm) and (item := item_of(arm)) is not None:
                return type(value)([read_numbers(entry, item) for entry in value])
    return value


def misfit(value: Any, annotation: Any) -> str:
    """What was expected, where `value` is a string and the annotation allows numbers only; else nothing.

    Example:
        >>> misfit("abc", float | None), misfit("mean", str), misfit(3, str)
        ('a number or null', '', '')
    """
    arms = arms_of(annotation)
    # by identity: an annotation may be any object, one without a hash too
    kinds = [text for arm in arms for kind, text in _NUMERIC.items() if arm is kind]
    return " or ".join(kinds) if isinstance(value, str) and len(kinds) == len(arms) else ""


def item_of(annotation: Any) -> Any:
    """The annotation of the items where `annotation` is that of a sequence, `Any` if it says nothing; else None."""
    if (typing.get_origin(annotation) or annotation) not in _SEQUENCES:
        return None
    return (typing.get_args(annotation) or (Any,))[0]


def literal_values(annotation: Any) -> list[Any] | None:
    """The values of a `Literal`; None for anything else."""
    return list(typing.get_args(annotation)) if typing.get_origin(annotation) is typing.Literal else None


def arms_of(annotation: Any) -> list[Any]:
    """The alternatives of a union; one for anything else."""
    if isinstance(annotation, str):  # could not be evaluated: the parts that are plain names still say something
        return [_BY_NAME.get(part.strip(), part) for part in annotation.split("|")]
    if typing.get_origin(annotation) is typing.Annotated:
        return arms_of(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [arm for part in typing.get_args(annotation) for arm in arms_of(part)]
    return [annotation]
