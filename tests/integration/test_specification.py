"""The promised classes, parameters, defaults and utility signatures, held against what is installed.

The table may only grow. A loss whose distribution has no folder in packages/ yet is skipped; from the day it has one,
all of its losses are required.
"""

import importlib
import inspect
import tomllib
from pathlib import Path
from typing import Any

import pytest

import losses_core.utils
from losses_core import LOSSES

TABLE: dict[str, Any] = tomllib.loads((Path(__file__).parent / "specification.toml").read_text())
PACKAGES = {path.parent.name for path in (Path(__file__).parents[2] / "packages").glob("*/pyproject.toml")}


def promised(value: Any) -> Any:
    return None if value == "none" else value


def entries() -> list[Any]:
    rows = []
    for name, entry in TABLE["losses"].items():
        absent = entry["distribution"] not in PACKAGES
        skip = pytest.mark.skipif(absent, reason=f"{entry['distribution']} is not part of this repository yet")
        rows.append(pytest.param(name, entry, id=name, marks=skip))
    return rows


@pytest.mark.parametrize(("name", "entry"), entries())
def test_loss(name: str, entry: dict[str, Any]) -> None:
    info = LOSSES.describe(name)
    assert (info.distribution, info.target) == (entry["distribution"], f"{entry['target']}:{name}")
    parameters = inspect.signature(LOSSES[name]).parameters
    for parameter, default in (TABLE["options"] | entry["defaults"]).items():
        assert parameter in parameters, f"{name} has no parameter {parameter}"
        found, expected = parameters[parameter].default, promised(default)
        assert found == expected, f"{name}({parameter}={found!r}), promised {expected!r}"
        assert isinstance(found, bool) == isinstance(expected, bool), f"{name}({parameter}={found!r})"
    for alias in entry.get("aliases", []):
        assert LOSSES[alias] is LOSSES[name]


@pytest.mark.parametrize("name", TABLE["utilities"])
def test_utility(name: str) -> None:
    parameters = list(inspect.signature(getattr(losses_core.utils, name)).parameters)
    leading = TABLE["utilities"][name]
    assert parameters[: len(leading)] == leading


@pytest.mark.parametrize("name", TABLE["functions"])
def test_function(name: str) -> None:
    module, _, attribute = name.partition(":")
    parameters = list(inspect.signature(getattr(importlib.import_module(module), attribute)).parameters)
    leading = TABLE["functions"][name]
    assert parameters[: len(leading)] == leading


@pytest.mark.parametrize("distribution", sorted(PACKAGES - {"losses-core", "losses"}))
def test_every_installed_loss_is_in_the_table(distribution: str) -> None:
    known = {name for name, entry in TABLE["losses"].items() if entry["distribution"] == distribution}
    known |= {alias for name in known for alias in TABLE["losses"][name].get("aliases", [])}
    installed = {name for name in LOSSES if LOSSES.describe(name).distribution == distribution}
    assert installed == known
