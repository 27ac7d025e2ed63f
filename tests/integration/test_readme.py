"""The code blocks of the READMEs run as written, and the wheel of the README's example package joins the registry."""

import contextlib
import io
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from losses_core import LOSSES

ROOT = Path(__file__).parents[2]
READMES = [ROOT / "README.md", *sorted(ROOT.glob("packages/*/README.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\S+\.\w+)\n")  # a block that starts with a path is that file
PRINTS = re.compile(r"^\s*print\(.*\)  # (.*)$", re.MULTILINE)


def blocks(text: str, language: str) -> list[str]:
    return [code for found, code in BLOCK.findall(text) if found == language]


@pytest.fixture
def registry() -> Any:
    """The registry, as it was afterwards."""
    registered = dict(LOSSES._registered)
    yield LOSSES
    LOSSES._registered.clear()
    LOSSES._registered.update(registered)


@pytest.mark.parametrize("path", READMES, ids=lambda path: path.parent.name)
def test_python_blocks(path: Path, registry: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    torch.manual_seed(0)
    namespace: dict[str, Any] = {"__name__": "readme"}
    code = [block for block in blocks(path.read_text(), "python") if not FILE.match(block)]
    assert code
    for block in code:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block, f"{path.name}: {block.splitlines()[0]}", "exec"), namespace)
        assert printed.getvalue().splitlines() == PRINTS.findall(block)


def test_quick_start_is_short() -> None:
    assert len(blocks(READMES[0].read_text(), "python")[0].strip().splitlines()) <= 12


def test_table_lists_every_loss(plugins: dict[str, dict[str, str]]) -> None:
    listed = re.findall(r"(?:^\| |also named )`(\w+Loss\w*)` \|", READMES[0].read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(name for losses in plugins.values() for name in losses)


def test_sessions_exist() -> None:
    """Every `nox -s …` of the READMEs is a session."""
    text = "".join((ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md"))
    named = {name for words in re.findall(r"nox -s ([\w -]+?)(?: --|[\s`]*[#\n`])", text) for name in words.split()}
    packages = {path.parent.name.removeprefix("losses-") for path in ROOT.glob("packages/*/pyproject.toml")}
    source = (ROOT / "noxfile.py").read_text()
    defined = re.findall(r"^def (\w+)\(session", source, re.MULTILINE)
    sessions = {f"tests-{name}" for name in packages} | {name.replace("_", "-") for name in defined}
    assert named
    assert named <= sessions


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The README's example package: its wheel, built from the blocks, unpacked as an installer would."""
    project, target = tmp_path_factory.mktemp("acme"), tmp_path_factory.mktemp("acme-installed")
    text = READMES[0].read_text()
    for block in (*blocks(text, "toml"), *blocks(text, "python")):
        if path := FILE.match(block):
            file = project / path[1]
            file.parent.mkdir(exist_ok=True)
            file.write_text(block)
    (project / "acme_losses" / "__init__.py").touch()
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "dist"]
    subprocess.run(command, cwd=project, check=True, capture_output=True, timeout=120)
    (wheel,) = (project / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


THIRD_PARTY = """
import json, sys, torch
from losses_core import LOSSES, build_loss
listed = {name: LOSSES.describe(name).distribution for name in LOSSES}
early = [name for name in sys.modules if name.startswith(("losses_cls", "acme"))]
loss = build_loss({"type": "CharbonnierLoss", "eps": 0.5, "loss_weight": 2})
again = build_loss(loss.to_config())
pred = torch.zeros(4, requires_grad=True)
value = again(pred, torch.zeros(4))
value.backward()
qualified = LOSSES["acme-losses:CharbonnierLoss"] is LOSSES["CharbonnierLoss"]
print(json.dumps([listed, early, value.item(), qualified]))
"""


def test_package_of_a_third_party(
    acme: Path, plugins: dict[str, dict[str, str]], run: Callable[..., Any], subset: tuple[str, ...]
) -> None:
    listed, early, value, qualified = run(THIRD_PARTY, ("losses-core", *subset, acme))
    ours = {name: plugin for plugin in subset for name in plugins[plugin]}
    assert listed == ours | {"CharbonnierLoss": "acme-losses"}
    assert early == []
    assert value == 1.0
    assert qualified
