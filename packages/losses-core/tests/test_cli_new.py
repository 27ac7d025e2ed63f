"""`losses new`: what it writes, and what it does not take."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

from losses_core import __version__
from losses_core._cli import main
from losses_core._cli.new import core_range


def test_files(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "acme-box-losses", "--loss", "TightIoULoss"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "acme-box-losses/pyproject.toml",
        "acme-box-losses/README.md",
        "acme-box-losses/src/acme_box_losses/__init__.py",
        "acme-box-losses/src/acme_box_losses/tight_iou_loss.py",
        "acme-box-losses/src/acme_box_losses/py.typed",
        "acme-box-losses/tests/__init__.py",
        "acme-box-losses/tests/test_contract.py",
    ]
    project = tomllib.loads(Path("acme-box-losses/pyproject.toml").read_text())["project"]
    assert project["name"] == "acme-box-losses"
    assert f"losses-core{core_range(__version__)}" in project["dependencies"]
    declared = {"TightIoULoss": "acme_box_losses.tight_iou_loss:TightIoULoss"}
    assert project["entry-points"] == {"losses_core.losses": declared}
    for source in Path("acme-box-losses").rglob("*"):
        if source.is_file():
            assert "$" not in source.read_text()
            if source.suffix == ".py":
                ast.parse(source.read_text())


def test_the_loss_computes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["new", "acme-losses", "--directory", str(tmp_path / "not" / "there")]) == 0
    monkeypatch.syspath_prepend(tmp_path / "not" / "there" / "acme-losses" / "src")
    import torch
    from acme_losses import MyLoss  # type: ignore[import-not-found]  # it has just been written

    assert MyLoss(scale=3)(torch.ones(4), torch.zeros(4)).item() == 3


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["Acme"], "expected a name of small letters and hyphens, as acme-losses; got 'Acme'."),
        (["acme_losses"], "got 'acme_losses'."),
        (["../acme"], "got '../acme'."),
        (["lambda"], "lambda: a keyword of Python cannot be imported"),
        (["losses-core"], "losses-core: a module losses_core is there already, and would be hidden"),
        (["acme", "--loss", "wing_loss"], "--loss: expected the name of a class, as WingLoss; got 'wing_loss'."),
        (["acme", "--loss", "None"], "got 'None'."),
        (["acme", "--loss", "DiceLoss"], "--loss: DiceLoss is a loss of losses-seg already"),
    ],
)
def test_names(arguments: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", *arguments, "--directory", str(tmp_path)]) == 1
    assert text in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "acme").mkdir()
    assert main(["new", "acme", "--directory", str(tmp_path)]) == 1
    assert f"{tmp_path / 'acme'}: exists already; give another name, or another --directory." in capsys.readouterr().err
    assert list((tmp_path / "acme").iterdir()) == []


def test_a_place_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["new", "acme", "--directory", str(tmp_path / "file")]) == 1
    assert "cannot be written: Not a directory" in capsys.readouterr().err


def test_range_of_the_core() -> None:
    assert core_range("0.12.3") == ">=0.12,<0.13"
    assert core_range("1.4.0rc1") == ">=1.4,<2"
