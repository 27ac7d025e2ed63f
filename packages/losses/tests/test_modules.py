"""The sub-modules: those of the tasks stand for packages, those of the core for its modules."""

import importlib
import re
import sys
from collections.abc import Callable
from importlib.metadata import metadata, requires
from typing import Any

import pytest

import losses
import losses_core
from losses._tasks import TASKS
from losses_core import LossNotInstalledError
from losses_core._installing import how_to_install
from losses_testkit.fake_distributions import FakeSite

from .conftest import Install

WAYS: dict[str, Callable[[str], Any]] = {
    "import": lambda task: importlib.import_module(f"losses.{task}"),
    "from-import": lambda task: exec(f"from losses import {task}"),
    "names": lambda task: exec(f"from losses.{task} import GapLoss"),
    "attribute": lambda task: getattr(losses, task),
}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("site")
def test_package_not_installed(way: str, task: str) -> None:
    with pytest.raises(LossNotInstalledError) as caught:
        WAYS[way](task)
    package = TASKS[task]
    text = f"'losses.{task}' is provided by {package}, which is not installed: {how_to_install(package)}"
    assert str(caught.value) == text
    assert f"losses.{task}" not in sys.modules
    assert task not in dir(losses)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("way", WAYS)
def test_package_installed(install: Install, way: str, task: str) -> None:
    install(TASKS[task], "GapLoss", "StepLoss", functional="answer = 42")
    assert f"losses.{task}" not in sys.modules
    WAYS[way](task)
    module = sys.modules[f"losses.{task}"]
    assert getattr(losses, task) is module
    assert module.__all__ == ["GapLoss", "StepLoss", "functional"]
    assert module.GapLoss is losses.GapLoss  # type: ignore[attr-defined]  # made up for this test
    assert module.functional.answer == 42


def test_installed_later(install: Install) -> None:
    with pytest.raises(LossNotInstalledError):
        importlib.import_module("losses.segmentation")
    install("losses-seg", "DiceLoss")
    assert importlib.import_module("losses.segmentation").DiceLoss is losses.DiceLoss


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("way", ["import", "attribute"])
def test_package_that_lacks_something(site: FakeSite, install: Install, way: str, task: str) -> None:
    """An import that fails inside the package is not passed off as a package that is not installed."""
    install(TASKS[task], "GapLoss")
    source = "raise ModuleNotFoundError('no x', name='x') from ZeroDivisionError()"
    (site.folder / TASKS[task].replace("-", "_") / "__init__.py").write_text(source)
    with pytest.raises(ModuleNotFoundError) as caught:
        WAYS[way](task)
    assert caught.value.name == "x"
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("name", ["utils", "builder"])
def test_modules_of_the_core(name: str) -> None:
    ours, theirs = getattr(losses, name), importlib.import_module(f"losses_core.{name}")
    assert ours.__all__ == theirs.__all__
    assert all(getattr(ours, public) is getattr(theirs, public) for public in theirs.__all__)


def test_base_loss() -> None:
    assert set(losses.base_loss.__all__) == {"BaseLoss", "CommonOptions", "LossOptions"}
    assert all(getattr(losses.base_loss, name) is getattr(losses_core, name) for name in losses.base_loss.__all__)


def test_extras() -> None:
    """One for each task's package, with a range that has an end, and one for all."""
    extras = {distribution.removeprefix("losses-") for distribution in TASKS.values()}
    assert set(metadata("losses").get_all("Provides-Extra", [])) == extras | {"all"}
    lines = [line.replace(" ", "").replace('"', "'") for line in requires("losses") or []]
    ranges: dict[str, set[str]] = {extra: set() for extra in (*extras, "all")}
    for requirement, _, extra in (line.partition(";extra==") for line in lines if ";extra==" in line):
        ranges[extra.strip("'")].add(requirement)
    for extra in extras:
        (requirement,) = ranges[extra]
        assert re.fullmatch(rf"losses-{extra}(<[\d.]+,>=[\d.]+|>=[\d.]+,<[\d.]+)", requirement)
    assert ranges["all"] == set().union(*(ranges[extra] for extra in extras))
