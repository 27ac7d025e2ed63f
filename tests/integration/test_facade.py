"""The facade over the real packages: with one of them, with none, with all; and the stub that type checkers read."""

import ast
import importlib
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import losses
import losses_core
from losses._tasks import TASKS, package_of
from losses_core import LOSSES

Run = Callable[..., Any]

SUBSET = """
import json, sys
import losses
from losses import LOSSES, build_loss

def loaded():
    return sorted({m.partition(".")[0] for m in sys.modules if m.startswith("losses_") and sys.modules[m]})

tasks, *names = sys.argv[1:]
at_start, listed, after_dir = loaded(), dir(losses), loaded()
found, refused = [], {}
for line in [f"from losses import {n}" for n in names] + [f"import losses.{t}" for t in tasks.split()]:
    try:
        exec(line)
        found.append(line.split()[-1])
    except ImportError as error:
        refused[line.split()[-1]] = str(error)
print(json.dumps([at_start, listed, after_dir, found, refused]))
"""


@pytest.mark.parametrize("chosen", [(), ("losses-cls",), None], ids=["core-alone", "cls", "all"])
def test_subset(chosen: tuple[str, ...] | None, plugins: dict[str, dict[str, str]], run: Run) -> None:
    chosen = tuple(plugins) if chosen is None else chosen
    provider = {name: plugin for plugin, names in plugins.items() for name in names} | {
        f"losses.{task}": distribution for task, distribution in TASKS.items()
    }
    losses_of = [name for name in provider if "." not in name]
    at_start, listed, after_dir, found, refused = run(
        SUBSET, ("losses", "losses-core", *chosen), " ".join(TASKS), *losses_of
    )
    assert at_start == after_dir == ["losses_core"], "neither the import nor dir() may import a plug-in"
    present = {name for name, plugin in provider.items() if plugin in chosen}
    assert set(found) == present
    assert set(listed) == {*losses.__all__, *(name.removeprefix("losses.") for name in present)}
    assert refused == {
        name: f"{name!r} is provided by {plugin}, which is not installed: "
        f"pip install ./packages/{plugin} in the checkout"
        for name, plugin in provider.items()
        if plugin not in chosen
    }


def test_hint_with_one_package(run: Run) -> None:
    code = """
import json
try:
    from losses import FocalLos
except ImportError as error:
    print(json.dumps(str(error)))
"""
    version = LOSSES.describe("FocalLoss").version
    text = f"'FocalLos' is not a registered loss. Did you mean 'FocalLoss'? Installed: losses-cls {version}."
    assert run(code, ("losses", "losses-core", "losses-cls")) == text


def test_every_name(plugins: dict[str, dict[str, str]]) -> None:
    for names in plugins.values():
        for name in names:
            assert getattr(losses, name) is LOSSES[name]


def test_every_task(plugins: dict[str, dict[str, str]]) -> None:
    assert {"losses", "losses-core"}.isdisjoint(TASKS.values())
    assert set(plugins) == set(TASKS.values())
    for task in TASKS:
        ours, theirs = importlib.import_module(f"losses.{task}"), importlib.import_module(package_of(task))
        assert ours.__all__ == theirs.__all__
        assert all(getattr(ours, name) is getattr(theirs, name) for name in theirs.__all__)


@pytest.fixture(scope="module")
def generator(root: Path) -> dict[str, Any]:
    return runpy.run_path(str(root / "tools" / "generate_facade.py"))


def test_stub_is_current(generator: dict[str, Any]) -> None:
    assert generator["main"](["--check"]) == 0


def test_stub_names_exist(root: Path) -> None:
    """Every name that a type checker finds is there at run time, and the same object."""
    stub = ast.parse((root / "packages/losses/src/losses/__init__.pyi").read_text(encoding="utf-8"))
    names = set()
    for node in stub.body:
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                assert getattr(losses, alias.name) is getattr(module, alias.name)
                names.add(alias.name)
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) != "__all__":
            alias_name = ast.unparse(node.targets[0])
            assert getattr(losses, alias_name) is getattr(losses, ast.unparse(node.value))
            names.add(alias_name)
    assert names | {"__version__"} == set(dir(losses))


@pytest.fixture
def repository(root: Path, tmp_path: Path) -> Path:
    """A copy of what the generator reads, with one plug-in."""
    for name in ("losses/src/losses", "losses-core/src/losses_core"):
        target = tmp_path / "packages" / name
        target.mkdir(parents=True)
        (target / "__init__.py").write_text((root / "packages" / name / "__init__.py").read_text())
    (tmp_path / "packages/losses/src/losses/detection.py").touch()
    (tmp_path / "packages/losses/src/losses/_private.py").touch()
    plugin = tmp_path / "packages/losses-det/pyproject.toml"
    plugin.parent.mkdir()
    plugin.write_text(
        '[project]\nname = "losses-det"\n[project.entry-points."losses_core.losses"]\n'
        'NewLoss = "losses_det.new:NewLoss"\nnewloss = "losses_det.new:NewLoss"\n'
    )
    return tmp_path


def test_generator(generator: dict[str, Any], repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main, stub = generator["main"], repository / "packages/losses/src/losses/__init__.pyi"
    assert main(["--check"], repository) == 1
    assert not stub.exists()
    assert main([], repository) == 0
    assert main(["--check"], repository) == 0
    lines = stub.read_text().splitlines()
    assert "from losses_det.new import NewLoss as NewLoss" in lines
    assert lines.count("from losses_det.new import NewLoss as NewLoss") == 1
    assert "newloss = NewLoss" in lines
    assert "from losses import detection as detection" in lines
    assert not any("_private" in line for line in lines)
    core = [line for line in lines if line.startswith("from losses_core import")]
    assert core == [f"from losses_core import {n} as {n}" for n in (line.split()[-1] for line in core)]
    assert {line.split()[-1] for line in core} == set(losses_core.__all__) - {"__version__"}

    project = repository / "packages/losses-det/pyproject.toml"
    project.write_text(project.read_text() + 'OtherLoss = "losses_det.new:OtherLoss"\n')
    capsys.readouterr()
    assert main(["--check"], repository) == 1
    assert "out of date: run nox -s generate" in capsys.readouterr().out
    assert stub.read_text().splitlines() == lines
