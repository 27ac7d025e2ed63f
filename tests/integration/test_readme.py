"""The code blocks of the READMEs run as written, and the wheel of the README's example package joins the registry."""

import contextlib
import io
import json
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
def test_python_blocks(path: Path, registry: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for block in blocks(path.read_text(), "yaml"):
        named = FILE.match(block)
        if named:
            Path(named[1]).write_text(block)
    torch.manual_seed(0)
    namespace: dict[str, Any] = {"__name__": "readme"}
    code = [block for block in blocks(path.read_text(), "python") if not FILE.match(block)]
    assert code
    for block in code:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block, f"{path.name}: {block.splitlines()[0]}", "exec"), namespace)
        assert printed.getvalue().splitlines() == PRINTS.findall(block)


def test_the_figures_at_the_top_are_those_below(plugins: dict[str, dict[str, str]]) -> None:
    text = READMES[0].read_text()
    start, rest = text.split("## Two commands")
    assert f"{len({target for losses in plugins.values() for target in losses.values()})} losses come in" in start
    for right, tried in re.findall(r"(\d+) of (\d+)", start):
        assert f"| {right}/{tried} |" in rest
    costs = json.loads((ROOT / "benchmarks" / "results" / "accelerator.json").read_text())["cases"]
    for name, ours, library, theirs in (
        ("ce_4x19x256", "cross-entropy 1.2", "torch", "torch 6"),
        ("dice_4x19x256", "Dice 1.5", "monai", "MONAI 8"),
        ("kd_256x32000", "distillation 1.3", "torch", "torch 14"),
    ):
        for text, implementation in ((ours, "losses"), (theirs, library)):
            cost = costs[name]["implementations"][implementation]["figures"]["bfloat16 large"]
            assert text in start and float(text.split()[-1]) == pytest.approx(cost["peak"] / cost["pred"], abs=0.05)


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
