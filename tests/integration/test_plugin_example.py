"""The example package of the documentation: its wheel joins the registry, and its own tests pass on it."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from losses_core import __version__

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


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the example and unpacked as an installer would."""
    wheels, target = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("acme-losses")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels)]
    subprocess.run(command, cwd=EXAMPLE, check=True, capture_output=True, timeout=120)
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(target)
    assert "acme_losses/py.typed" in names
    assert not any("test" in name for name in names)
    return target


def test_the_wheel_joins_the_registry(installed: Path, run: Callable[..., Any]) -> None:
    distribution, version, early, value, width = run(USE, ("losses-core", installed))
    assert (distribution, version) == ("acme-losses", "1.0.0")
    assert early == [], "a name is known before its package is imported"
    assert value == pytest.approx(2 * (8 - 5 + 5 * 1.252763), abs=1e-3)
    assert width == 5.0


def test_its_own_tests_pass(installed: Path, tmp_path: Path) -> None:
    """The tests and doctests of the example, as its author runs them."""
    # away from this repository, whose pytest settings are not the author's
    tests = tmp_path / "tests"
    tests.mkdir()
    for file in (EXAMPLE / "tests").glob("*.py"):
        (tests / file.name).write_text(file.read_text())
    path = os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("COVERAGE", "PYTEST"))} | {"PYTHONPATH": path}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)]
    command += ["--doctest-modules", str(installed / "acme_losses"), "--import-mode=importlib"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


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
