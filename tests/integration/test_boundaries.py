"""The rules between packages hold, and the check that says so would notice if they did not."""

import runpy
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from generate import GENERATORS


@pytest.fixture(scope="module")
def boundaries(root: Path) -> dict[str, Any]:
    return runpy.run_path(str(root / "tools" / "check_boundaries.py"))


def test_this_repository(boundaries: dict[str, Any], root: Path) -> None:
    assert boundaries["check"](root) == []


@pytest.mark.parametrize(
    ("package", "source", "fault"),
    [
        ("losses_red", "import losses_blue", "losses_red imports losses_blue"),
        ("losses_red", "def f():\n    from losses_blue.a import b", "losses_red imports losses_blue.a"),
        ("losses_red", "from losses import build_loss", "losses_red imports losses"),
        ("losses_core", "import losses_red", "losses_core imports losses_red"),
        ("losses_core", "import losses", "losses_core imports losses"),
        ("losses", "import losses_core, losses_red", None),
        ("losses_core", "HINT = 'pip install losses-red'", "losses_core names a plug-in: 'losses-red'"),
        ("losses_core", "HINT = f'losses_red.{1}'", "losses_core names a plug-in: 'losses_red'"),
        ("losses_red", "'''From losses_core and losses_blue.'''\nimport torch, losses_core.utils, losses_red.a", None),
        ("losses_red", "import torch\n\ntorch._C", "_C of torch is not public: that belongs into"),
        ("losses_red", "from torch.func import _f", "_f of torch is not public: that belongs into"),
        ("losses_core", "from torch._inductor import config", "_inductor of torch is not public: that belongs into"),
        ("losses_red", "isinstance(1, int | str)", "isinstance of a union, which torch 2.6 does not compile"),
        ("losses_red", "a |= {x: 1 for x in a}", "|= of a dict, which torch 2.6 does not compile"),
        ("losses_red", "import torch\n\nisinstance(1, (int, str)), torch.__version__, f(torch.x)._y", None),
        ("losses_core", "'''Also \"losses-red:A\".'''\nEXTRA = 'losses-core[yaml]'  # not losses_red", None),
    ],
)
def test_check(boundaries: dict[str, Any], tmp_path: Path, package: str, source: str, fault: str | None) -> None:
    for name in ("losses", "losses-core", "losses-red", "losses-blue"):
        folder = tmp_path / "packages" / name
        (folder / "src" / name.replace("-", "_")).mkdir(parents=True)
        (folder / "pyproject.toml").touch()
    (tmp_path / "packages" / package.replace("_", "-") / "src" / package / "a.py").write_text(source)
    (tmp_path / "packages" / "losses-core" / "src" / "losses_core" / "_catalogue.py").write_text("A = 'losses-red'")
    found = boundaries["check"](tmp_path)
    assert len(found) == (fault is not None)
    if fault:
        assert fault in found[0]
        assert "a.py:" in found[0]


@pytest.mark.parametrize("generator", GENERATORS, ids=lambda generator: generator.__name__)
def test_generated_files_are_current(generator: ModuleType) -> None:
    assert generator.main(["--check"]) == 0


def test_every_generator_is_run(root: Path) -> None:
    """`nox -s generate` runs all of them."""
    assert sorted(generator.__name__ for generator in GENERATORS) == [
        path.stem for path in sorted((root / "tools").glob("generate_*.py"))
    ]
