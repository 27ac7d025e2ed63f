"""Config values held against the annotations of a constructor."""

from __future__ import annotations

import collections.abc
import re
import types
import typing
from typing import Any

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_SEQUENCES = (list, tuple, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
_NUMERIC: dict[type, str] = {float: "a number", int: "an integer", bool: "true or false", type(None): "null"}
_BY_NAME = {"float": float, "int": int, "bool": bool, "str": str, "None": type(None)}


def read_floats(value: Any, annotation: Any) -> Any:
    """`value` with its strings read as floats where the annotation says float (and not str as well).

    YAML 1.1 reads `1e-6` as a string: without a dot it is no number there.

    Example:
        >>> read_floats("1e-6", float | None), read_floats("1e-6", str | float), read_floats(["1e-6"], list[float])
        (1e-06, '1e-6', [1e-06])
    """
    arms = _arms(annotation)
    if isinstance(value, str):
        return float(value) if float in arms and str not in arms and _NUMBER.fullmatch(value) else value
    if isinstance(value, list | tuple):
        for arm in arms:
            if typing.get_origin(arm) in _SEQUENCES and typing.get_args(arm):
                return type(value)([read_floats(item, typing.get_args(arm)[0]) for item in value])
    return value


def misfit(value: Any, annotation: Any) -> str:
    """What was expected, where `value` is a string and the annotation allows numbers only; else nothing.

    Example:
        >>> misfit("abc", float | None), misfit("mean", str), misfit(3, str)
        ('a number or null', '', '')
    """
    arms = _arms(annotation)
    # by identity: an annotation may be any object, one without a hash too
    kinds = [text for arm in arms for kind, text in _NUMERIC.items() if arm is kind]
    return " or ".join(kinds) if isinstance(value, str) and len(kinds) == len(arms) else ""


def _arms(annotation: Any) -> list[Any]:
    """The alternatives of a union; one for anything else."""
    if isinstance(annotation, str):  # could not be evaluated: the parts that are plain names still say something
        return [_BY_NAME.get(part.strip(), part) for part in annotation.split("|")]
    if typing.get_origin(annotation) is typing.Annotated:
        return _arms(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [arm for part in typing.get_args(annotation) for arm in _arms(part)]
    return [annotation]
