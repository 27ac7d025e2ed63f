"""The flattened constructor signature of a loss: what editors, command-line builders and did-you-mean read."""

from __future__ import annotations

import inspect
import typing
from typing import Any


def flatten_constructor(cls: Any) -> None:
    """Set ``cls.__init__.__signature__`` to the full parameter list, ``**options`` spelled out.

    A ``**options: Unpack[SomeTypedDict]`` becomes the keys of the TypedDict, any other ``**options`` the parameters of
    the next constructor in the MRO that are not taken already. Defaults come from that constructor.
    """
    own = inspect.signature(cls.__init__)
    hints = _hints(cls.__init__)
    inherited = inspect.signature(super(cls, cls).__init__).parameters
    parameters: list[inspect.Parameter] = []
    for parameter in own.parameters.values():
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            annotation = hints.get(parameter.name, parameter.annotation)
            parameters.append(parameter.replace(annotation=annotation))
            continue
        taken = {p.name for p in parameters}
        options = _typed_dict_keys(hints.get(parameter.name))
        for p in inherited.values():
            if p.name in taken or p.name == "self" or p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL):
                continue
            if options is None or p.name in options:
                parameters.append(p.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    cls.__init__.__signature__ = inspect.Signature(parameters)


def _hints(function: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError):
        # a user's annotation that cannot be evaluated at run time stays the string it is
        return {}


def _typed_dict_keys(annotation: Any) -> frozenset[str] | None:
    if typing.get_origin(annotation) is not typing.Unpack:
        return None
    (typed_dict,) = typing.get_args(annotation)
    return frozenset(typing.get_type_hints(typed_dict))


def constructor_parameters(cls: type) -> dict[str, inspect.Parameter]:
    """Name → parameter of the flattened constructor, without ``self``."""
    return {
        name: p
        for name, p in inspect.signature(cls).parameters.items()
        if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }


def call_parameters(function: Any) -> dict[str, Any]:
    """Name → default of the parameters of ``_forward`` after the first two; ``Parameter.empty`` where required."""
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    inputs = {p.name for p in positional[:2]}
    return {
        p.name: p.default
        for p in parameters
        if p.name not in inputs and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }
