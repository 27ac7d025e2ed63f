"""The JSON Schema of one parameter, from its annotation and the limits of its check."""

from __future__ import annotations

import json
from typing import Any

from losses_core._annotations import NUMBER, arms_of, item_of, literal_values

Schema = dict[str, Any]


def value_schema(annotation: Any, limits: Schema) -> Schema:
    """The schema of a parameter by its annotation and its limits."""
    arms = arms_of(annotation)
    kinds: Schema = {}  # JSON type → the keywords for it
    fixed: list[Any] = []
    for arm in arms:
        values = literal_values(arm)
        if values is not None:
            fixed += values
        elif arm is str and "enum" in limits:
            fixed += [word for word in limits["enum"] if isinstance(word, str)]
        elif arm is bool or arm is str or arm is type(None):
            kinds[{bool: "boolean", str: "string", type(None): "null"}[arm]] = {}
        elif arm is int:
            kinds.setdefault("integer", _bounds(limits))
        elif arm is float:
            kinds["number"] = _bounds(limits)
            if str not in arms:  # as YAML reads 1e-6
                kinds["string"] = {"pattern": f"^{NUMBER}$"}
        elif (item := item_of(arm)) is not None:
            kinds["array"] = {"items": {**value_schema(item, {}), **limits.get("items", {})}}
        elif getattr(arm, "__module__", "").partition(".")[0] != "torch":  # tensors are not for files
            return {}
    types = [kind for kind in kinds if not (kind == "integer" and "number" in kinds)]
    if not types and not fixed:
        return {}
    if fixed and set(types) <= {"null"}:
        return {"enum": fixed + [None] * len(types)}
    schema: Schema = {"type": types[0] if len(types) == 1 else types}
    for kind in types:
        schema |= kinds[kind]
    return {"anyOf": [{"enum": fixed}, schema]} if fixed else schema


def _bounds(limits: Schema) -> Schema:
    words = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
    return {word: limits[word] for word in words if word in limits}


def is_plain(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def fits(value: Any, schema: Schema) -> bool:
    """Whether a default is of a kind that its own annotation allows: `x: float = None` is not."""
    if "anyOf" in schema:
        return any(fits(value, arm) for arm in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    types = schema.get("type", [])
    kinds: dict[type, tuple[str, ...]] = {bool: ("boolean",), int: ("integer", "number"), float: ("number",)}
    kinds.update({str: ("string",), list: ("array",), dict: ("object",), type(None): ("null",)})
    return not types or any(kind in types for kind in kinds[type(value)])
