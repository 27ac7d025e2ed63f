"""A package of losses that is none of this repository: the example of the documentation, and what `losses new` writes.

The wheel of the example joins the registry, and the tests of both pass on what is installed.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from losses_core import __version__
from losses_core._cli import main

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "plugin"

USE = """
import json, sys, torch
from losses_core import LOSSES, build_loss

info = LOSSES.describe("WingLoss")
early = [name for name in sys.modules if name.startswith("acme")]
loss = build_loss({"type": "WingLoss", "width": 5.0, "weight": 2})
value = loss(torch.zeros(3, requires_grad=True), torch.full((3,), 8.0))
print(json.dumps([info.distribution, info.version, early, round(value.item(), 3), loss.to_config()["width"]]))
"""


def build(project: Path, target: Path) -> list[str]:
    """Build the wheel of a package and unpack it as an installer would; the names of its files."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target / "wheels")]
    subprocess.run(command, cwd=project, check=True, capture_output=True, timeout=120)
    (wheel,) = (target / "wheels").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target / "installed")
        return archive.namelist()


def run_tests(project: Path, installed: Path, folder: Path, *arguments: str) -> None:
    """Run the tests and doctests of a package as its author does."""
    # away from this repository, whose pytest settings are not the author's
    shutil.copytree(project / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    path = os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("COVERAGE", "PYTEST"))} | {"PYTHONPATH": path}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder / "tests"), *arguments]
    command += ["--doctest-modules", str(installed / "acme_losses"), "--import-mode=importlib"]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


def contents(project: Path) -> set[str]:
    files = (path for path in project.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(project).as_posix() for path in files}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, as it is installed."""
    target = tmp_path_factory.mktemp("example")
    names = build(EXAMPLE, target)
    assert "acme_losses/py.typed" in names
    assert not any("test" in name for name in names)
    return target / "installed"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `losses new` writes."""
    folder = tmp_path_factory.mktemp("new")
    assert main(["new", "acme-losses", "--loss", "WingLoss", "--directory", str(folder)]) == 0
    return folder / "acme-losses"


def test_the_wheel_joins_the_registry(installed: Path, run: Callable[..., Any]) -> None:
    distribution, version, early, value, width = run(USE, ("losses-core", installed))
    assert (distribution, version) == ("acme-losses", "1.0.0")
    assert early == [], "a name is known before its package is imported"
    assert value == pytest.approx(2 * (8 - 5 + 5 * 1.252763), abs=1e-3)
    assert width == 5.0


def test_its_own_tests_pass(installed: Path, tmp_path: Path) -> None:
    run_tests(EXAMPLE, installed, tmp_path)


def test_a_new_package_passes_its_tests(written: Path, tmp_path: Path) -> None:
    build(written, tmp_path)
    # the compiler takes most of the time, and the loss is as simple as the example's
    run_tests(written, tmp_path / "installed", tmp_path, "-k", "not compile")


def test_a_new_package_has_the_shape_of_the_example(written: Path) -> None:
    assert contents(written) == contents(EXAMPLE)
    new, example = (tomllib.loads((folder / "pyproject.toml").read_text()) for folder in (written, EXAMPLE))
    for table in (new, example):
        for name in ("version", "description"):
            del table["project"][name]
    assert new == example


def test_the_page_shows_the_files_of_the_example() -> None:
    page = (ROOT / "docs" / "guide" / "writing-a-plugin.md").read_text()
    for path in EXAMPLE.rglob("*"):
        if path.suffix in (".toml", ".py") and path.name != "__init__.py":
            assert f"../examples/plugin/{path.relative_to(EXAMPLE)}" in page


def test_the_release_of_the_core_fits() -> None:
    """The range that the example declares holds the version of this repository."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    (core,) = (line for line in project["dependencies"] if line.startswith("losses-core"))
    low, high = (tuple(map(int, part.split("."))) for part in re.findall(r"[\d.]+", core))
    assert low <= tuple(map(int, __version__.split(".")[:2])) < high
