"""The JSON Schema of the config, for editors: `config_schema`.

What a parameter may be is read from its annotation, its limits from the checks of the constructor, its text from the
docstring. A config that the schema refuses has a fault; one that it accepts may still have a fault that depends on two
parameters at once, which `losses check` finds.
"""

from __future__ import annotations

import inspect
import json
import warnings
from contextlib import suppress

import torch
from torch import nn

from losses_core._class_weight import CLASS_WEIGHT, SCHEMA, names_statistics
from losses_core._docstring import parameter_texts, summary
from losses_core._signature import constructor_parameters
from losses_core._value_schema import Schema, fits, is_plain, value_schema
from losses_core._wrappers import WRAPPERS, wrapper_class
from losses_core.base_loss import BaseLoss
from losses_core.combined import CombinedLoss, check_label
from losses_core.errors import ConfigError, LossLoadError
from losses_core.registry import LOSSES
from losses_core.schedules import SCHEDULES, Schedule
from losses_core.utils import checks
from losses_core.weighting import WEIGHTINGS, UncertaintyWeighting

__all__ = ["config_schema"]


def config_schema(key: str | None = None) -> Schema:
    """The JSON Schema (draft 7) of a config, for every loss that is installed and can be loaded.

    Args:
        key: Where in a file the config is, as `loss` or `train.loss`; the rest of the file is not checked. None:
            the config is all there is.

    Returns:
        Plain data, for `json.dump`. The names are those of the registry, also in their qualified form.

    Example:
        >>> from losses_core import LOSSES, BaseLoss
        >>> @LOSSES.register(name="ExampleLoss", replace=True)
        ... class ExampleLoss(BaseLoss):
        ...     def _forward(self, pred, target):
        ...         return (pred - target).abs()
        >>> schema = config_schema()
        >>> schema["definitions"]["ExampleLoss"]["properties"]["reduction"]["enum"]
        ['none', 'mean', 'sum']
    """
    names = _names()
    every = sorted(name for listed in names.values() for name in listed)
    schema: Schema = _ref("config")
    for part in reversed(key.split(".") if key else ()):
        schema = {"type": "object", "properties": {part: schema}, "required": [part]}
    losses = {_title(cls, listed): _loss(cls) for cls, listed in names.items()}
    combination = CombinedLoss.__name__
    others = [combination, *WRAPPERS]
    types = {name: [name] for name in others} | {_title(cls, listed): listed for cls, listed in names.items()}
    choices = [
        {"if": {"properties": {"type": {"enum": listed}}, "required": ["type"]}, "then": _ref(title)}
        for title, listed in types.items()
    ]
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **({"allOf": [schema]} if "$ref" in schema else schema),  # draft 7 reads nothing beside a $ref
        "definitions": {
            "config": _config(),
            CLASS_WEIGHT: SCHEMA,
            "name": {
                "description": "The name of a loss.",
                "enum": every,
            },
            "loss": {
                "properties": {"type": {"anyOf": [_ref("name"), {"enum": others}]}},
                "allOf": choices,
            },
            combination: _combination(),
            **{name: _wrapper(name) for name in WRAPPERS},
            **losses,
        },
    }


def _config() -> Schema:
    return {
        "description": "A loss: its name; a mapping with 'type' and parameters; a list of losses, which are summed; "
        "or a mapping of labels to losses.",
        "type": ["string", "array", "object"],
        "properties": {"type": {}},  # for editors: the first key to propose
        "allOf": [
            {"if": {"type": "string"}, "then": _ref("name")},
            {"if": {"type": "array"}, "then": {"items": _ref("config"), "minItems": 1}},
            {"if": {"type": "object", "required": ["type"]}, "then": _ref("loss")},
            {
                "if": {"type": "object", "not": {"required": ["type"]}},
                "then": {
                    "additionalProperties": _ref("config"),
                    "propertyNames": {"pattern": r"^[^.]+$", "not": {"enum": _reserved()}},
                    "minProperties": 1,
                },
            },
        ],
    }


def _combination() -> Schema:
    weightings = [_part(name, cls) for name, cls in WEIGHTINGS.items()]
    return {
        "description": "Several losses, and how much each of them counts.",
        "type": "object",
        "properties": {
            "type": {},
            "losses": _ref("config"),
            "weighting": {"anyOf": [{"type": "null"}, {"enum": [UncertaintyWeighting.__name__]}, *weightings]},
            "loss_weight": {**value_schema(float, {}), "default": 1.0},
        },
        "required": ["type", "losses"],
        "additionalProperties": False,
    }


def _wrapper(name: str) -> Schema:
    """A loss in chunks or over layers: the constructor's parameters, of which one is a config."""
    cls = wrapper_class(name)
    part, texts = _part(name, cls), parameter_texts(cls)
    part["properties"].update({"type": {}, "loss": _ref("config")})
    for key, schema in part["properties"].items():
        if key in texts and "$ref" not in schema:  # beside a $ref draft 7 reads nothing
            part["properties"][key] = {"description": texts[key], **schema}
    return {"description": summary(cls), **part}


def _part(name: str, cls: type) -> Schema:
    """A weighting or a schedule: the constructor's parameters beside its name."""
    properties: Schema = {"type": {"enum": [name]}}
    required = ["type"]
    for key, parameter in inspect.signature(cls, eval_str=True).parameters.items():
        limits = {} if not issubclass(cls, Schedule) else {"exclusiveMinimum" if key in cls.divisors else "minimum": 0}
        properties[key] = value_schema(parameter.annotation, limits)
        if parameter.default is parameter.empty:
            required.append(key)
        else:
            properties[key]["default"] = parameter.default
    if "schedules" in properties:
        kinds = [_part(kind, schedule) for kind, schedule in SCHEDULES.items()]
        one = {"anyOf": [{"enum": ["constant"]}, *kinds]}
        properties["schedules"] = {"type": "object", "additionalProperties": one, "minProperties": 1}
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _reserved() -> list[str]:
    """The names that `check_label` refuses."""
    names = {*dir(CombinedLoss), *dir(type), *vars(nn.Module()), *CombinedLoss.__annotations__, "total"}
    return sorted(filter(_is_refused, names))


def _is_refused(label: str) -> bool:
    try:
        check_label(label)
    except ConfigError:
        return True
    return False


def _names() -> dict[type[BaseLoss], list[str]]:
    """Class → the names that a config may give it: plain ones where they are no clash, and the qualified ones."""
    qualified = [entry.qualified for entries in LOSSES.scan().declared.values() for entry in entries]
    names: dict[type[BaseLoss], list[str]] = {}
    for name in dict.fromkeys([*LOSSES, *qualified]):
        with suppress(LossLoadError):  # a broken package: `losses doctor` tells
            names.setdefault(LOSSES[name], []).append(name)
    return names


def _title(cls: type[BaseLoss], names: list[str]) -> str:
    """The one of its names under which a class is defined."""
    return cls.__name__ if cls.__name__ in names else names[0]


def _ref(name: str) -> Schema:
    # in a JSON pointer ~ and / stand for themselves only when escaped
    return {"$ref": f"#/definitions/{name.replace('~', '~0').replace('/', '~1')}"}


def parameter_schemas(cls: type[BaseLoss]) -> dict[str, Schema]:
    """Parameter of a loss → its JSON Schema, with description and default."""
    texts, limits = parameter_texts(cls), _limits(cls)
    properties = {}
    for name, parameter in constructor_parameters(cls).items():
        schema = value_schema(parameter.annotation, limits.get((cls, name), {}))
        if parameter.default is not parameter.empty and is_plain(parameter.default):
            default = json.loads(json.dumps(parameter.default))
            schema = schema if fits(default, schema) else {"anyOf": [schema, {"enum": [default]}]}
            schema = {**schema, "default": default}
        properties[name] = {"description": texts[name], **schema} if name in texts else schema
    return properties


def _loss(cls: type[BaseLoss]) -> Schema:
    parameters = constructor_parameters(cls)
    properties: Schema = {"type": {}, **parameter_schemas(cls)}
    found: Schema = {"description": summary(cls), "type": "object", "properties": properties}
    if "weight" not in parameters and "loss_weight" in parameters:
        text = "Another name for loss_weight."
        properties["weight"] = {**properties["loss_weight"], "description": text}
        found["not"] = {"required": ["weight", "loss_weight"]}
    if "inputs" not in parameters:
        properties["inputs"] = _inputs(cls)
    if CLASS_WEIGHT in parameters and names_statistics(CLASS_WEIGHT, {}, parameters[CLASS_WEIGHT].annotation):
        properties[CLASS_WEIGHT] = _or_statistics(properties[CLASS_WEIGHT])
    required = [name for name, p in parameters.items() if p.default is p.empty]
    return {**found, "required": ["type", *required], "additionalProperties": False}


def _or_statistics(schema: Schema) -> Schema:
    """Class weights as their annotation has them, or a mapping that names counts."""
    outer: Schema = {word: schema[word] for word in ("description", "default") if word in schema}
    inner = {word: value for word, value in schema.items() if word not in outer} or {"not": {"type": "object"}}
    return {**outer, "anyOf": [inner, _ref(CLASS_WEIGHT)]}


def _inputs(cls: type[BaseLoss]) -> Schema:
    path = {"type": "string", "pattern": r"^[^.]+(\.[^.]+)*$"}
    names = ["pred", "target", "weight", "avg_factor", *sorted(cls.call_keywords())]
    return {
        "description": "Argument → where in the mapping that the call is given, as student.logits.",
        "type": "object",
        "properties": dict.fromkeys(names, path),
        "required": ["pred", "target"],
        "additionalProperties": False,
    }


def _limits(cls: type[BaseLoss]) -> dict[tuple[type, str], Schema]:
    """What the constructor's own checks ask for, of a loss that can be built with its defaults."""
    with checks.recorded() as limits, torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with suppress(Exception):  # a parameter that is required, or whatever a constructor raises: less is known
            cls()
    return limits
