"""From a mapping with `type` to one of a few known classes, for the parts of a combination that are no losses."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from losses_core._annotations import read_numbers
from losses_core._suggest import did_you_mean, shown, text_of
from losses_core.errors import ConfigError

T = TypeVar("T")


def construct(classes: Mapping[str, type[T]], config: Any, where: str, kind: str) -> T:
    """Build the class that `type` names from the other entries.

    Args:
        classes: Name → class.
        config: A mapping with `type`, or a name alone.
        where: The path of the config, for errors.
        kind: What the classes are, for errors.

    Raises:
        ConfigError: Anything is wrong.
    """
    given = {"type": config} if isinstance(config, str) else config
    names = ", ".join(map(repr, classes))
    if not isinstance(given, Mapping) or "type" not in given:
        raise ConfigError(f"expected a {kind}: a mapping with 'type', one of {names}; got {shown(config)}.", where)
    name = given["type"]
    if not isinstance(name, str) or name not in classes:
        hint = did_you_mean(name, classes)
        raise ConfigError(f"expected a {kind}, one of {names}; got {shown(name)}.{hint}", f"{where}.type")
    cls = classes[name]
    known = _parameters(cast(Any, cls))
    parameters = {}
    for key, value in given.items():
        if key == "type":
            continue
        if key not in known:
            hint = did_you_mean(key, known).strip() or f"It has: {', '.join(known)}."
            at = f"{where}.{key}" if isinstance(key, str) else f"{where}[{shown(key)}]"
            raise ConfigError(f"{name!r} has no parameter {shown(key)}.", at, hint)
        parameters[key] = read_numbers(value, known[key].annotation)
    for key, parameter in known.items():
        if parameter.default is parameter.empty and key not in parameters:
            raise ConfigError(f"{name!r} needs the parameter {key!r}, which is not given.", where)
    try:
        return cls(**parameters)
    except ConfigError as error:
        raise ConfigError(error.text, error.path or where, error.hint) from error
    except Exception as error:  # whatever a constructor raises, its place in the config belongs to it
        raise ConfigError(text_of(error) or type(error).__name__, where) from error


@functools.cache
def _parameters(cls: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(cls, eval_str=True).parameters
