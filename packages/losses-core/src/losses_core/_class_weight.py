"""`class_weight: {from: stats.json, method: …}` in a config: class weights from the counts of a data set."""

from __future__ import annotations

import collections.abc
import typing
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

from losses_core._annotations import NUMBER, arms_of, read_numbers
from losses_core._suggest import did_you_mean, shown
from losses_core._weight_methods import WEIGHT_METHODS
from losses_core.errors import InputError
from losses_core.utils.loss_utils import weight_option_faults

if typing.TYPE_CHECKING:
    from losses_core.class_statistics import ClassStatistics

CLASS_WEIGHT = "class_weight"
DEFAULTS: dict[str, Any] = {"method": "inverse", "beta": 0.9999, "normalize": None}
KEYS = ("from", *DEFAULTS)

SCHEMA = {
    "description": "Class weights from counts: what `losses weights --out` wrote.",
    "type": "object",
    "properties": {
        "from": {"description": "The file, relative to the config file.", "type": "string", "minLength": 1},
        "method": {"enum": list(WEIGHT_METHODS), "default": DEFAULTS["method"]},
        "beta": {
            "description": "Of effective_num.",
            "type": ["number", "string"],
            "pattern": f"^{NUMBER}$",
            "minimum": 0,
            "exclusiveMaximum": 1,
            "default": DEFAULTS["beta"],
        },
        "normalize": {
            "description": "'mean' makes the mean of the weights 1.",
            "enum": [None, "mean"],
            "default": None,
        },
    },
    "required": ["from"],
    "additionalProperties": False,
}
"""JSON Schema of the mapping."""


def names_statistics(name: Any, value: Any, annotation: Any) -> bool:
    """Whether a parameter is class weights and its value a mapping, though its class expects none."""
    mappings = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
    expected = any((typing.get_origin(arm) or arm) in mappings for arm in arms_of(annotation))
    return name == CLASS_WEIGHT and isinstance(value, dict) and not expected


def read_class_weight(
    given: dict[Any, Any], known: dict[str, ClassStatistics], fault: Callable[[Any, str, str], None]
) -> list[float] | None:
    """Read the statistics that a mapping names, and compute the weights.

    Args:
        given: The mapping.
        known: Files that were read already.
        fault: Called with each fault: the key, or None for the mapping; what is wrong; a hint.

    Returns:
        The weights; None where there was a fault.
    """
    faulty = False
    for key in given:
        if key not in KEYS:
            faulty = True
            hint = did_you_mean(key, KEYS).strip() or f"It has: {', '.join(KEYS)}."
            fault(key, f"{CLASS_WEIGHT} has no key {shown(key)}.", hint)
    options = DEFAULTS | {key: given[key] for key in DEFAULTS if key in given}
    options["beta"] = read_numbers(options["beta"], float)
    for name, text in weight_option_faults(**options):
        faulty = True
        fault(name, text, "")
    if "from" not in given:
        text = "expected a list of numbers, or a mapping with 'from', which names what `losses weights --out` wrote."
        fault(None, text, "")
        return None
    statistics = _statistics(given["from"], known, fault)
    return None if faulty or statistics is None else statistics.weights(**options).tolist()


def _statistics(
    path: Any, known: dict[str, ClassStatistics], fault: Callable[[Any, str, str], None]
) -> ClassStatistics | None:
    from losses_core.class_statistics import read_statistics  # few configs name statistics

    if not isinstance(path, (str, PathLike)):
        fault("from", f"expected the path of a file, got {shown(path)}.", "")
        return None
    name = str(path)
    if name not in known:
        try:
            known[name] = read_statistics(name)
        except InputError as error:
            fault("from", f"{str(error).rstrip('.')}. `losses weights SOURCE --out FILE` writes such a file.", "")
    return known.get(name)


def anchor(content: Any, folder: Path) -> None:
    """Make the paths of statistics in a parsed file, which are relative to its folder, absolute; in place.

    Args:
        content: What was parsed.
        folder: Absolute, so that a path that two aliases of YAML name is changed once.
    """
    todo, visited = [content], set[int]()
    while todo:
        item = todo.pop()
        if id(item) in visited:  # an alias of YAML
            continue
        visited.add(id(item))
        if isinstance(item, dict):
            weights = item.get(CLASS_WEIGHT)
            if isinstance(weights, dict) and isinstance(weights.get("from"), str):
                weights["from"] = str(folder / weights["from"])
            todo += item.values()
        elif isinstance(item, (list, tuple)):
            todo += item
