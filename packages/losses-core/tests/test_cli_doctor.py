"""`losses doctor`: what it finds in an installation."""

import json
import sys
from pathlib import Path

import pytest

from losses_core import LOSSES
from losses_core._cli import main
from losses_testkit.fake_distributions import FakeSite

from .conftest import GROUP, install

pytestmark = pytest.mark.usefixtures("losses")


def test_doctor(site: FakeSite, capsys: pytest.CaptureFixture[str]) -> None:
    install(site, "acme-seg", "DiceLoss", "LovaszLoss", version="0.3.0")
    LOSSES.refresh()
    assert main(["doctor", "--strict"]) == 0
    text = capsys.readouterr().out
    rows = [line.split() for line in text.splitlines()]
    assert ["acme-seg", "0.3.0", "2"] in rows
    assert rows[1][0] == "python"
    assert "torch" in text
    assert text.rstrip().endswith("losses can be loaded.")


def test_doctor_lists_the_kernels(site: FakeSite, capsys: pytest.CaptureFixture[str]) -> None:
    source = """
from losses_core import BaseLoss
from losses_core.kernels import definition, delegate, kernel

@definition(layout="elements")
def absolute(pred, target):
    return (pred - target).abs()

@definition(delegates=True)
def other(pred, target):
    return delegate(absolute, pred, target)

@definition()
def plain(pred, target):
    return pred - target

@kernel(absolute)
def absolute_kernel(x, target, *, needs_grad):
    raise NotImplementedError

class ALoss(BaseLoss):
    function = absolute

class BLoss(BaseLoss):
    function = other

class CLoss(BaseLoss):
    function = plain

class DLoss(BaseLoss):
    def _forward(self, pred, target):
        return pred
"""
    module = "fake_kernels"
    entries = {name: f"{module}:{name}" for name in ("ALoss", "BLoss", "CLoss", "DLoss")}
    site.install("acme-kernels", entries | {"GoneLoss": "fake_gone:GoneLoss"}, modules={module: source}, group=GROUP)
    LOSSES.refresh()
    assert main(["doctor"]) == 1
    text = capsys.readouterr().out
    table = [line.split(maxsplit=2) for line in text.rpartition("\n\n")[2].splitlines()]
    assert table == [
        ["loss", "definition", "kernel"],
        ["ALoss", "absolute", "fake_kernels.absolute_kernel"],
        ["BLoss", "other", "of the definition it delegates to"],
        ["CLoss", "plain", "none of its own"],
    ]
    assert main(["doctor", "--json"]) == 1
    listed = json.loads(capsys.readouterr().out)["kernels"]
    assert listed[0] == {"loss": "ALoss", "definition": "absolute", "kernel": "fake_kernels.absolute_kernel"}


def test_doctor_outlives_a_package_that_raises_what_it_likes(
    site: FakeSite, capsys: pytest.CaptureFixture[str]
) -> None:
    site.install("acme-det", {"CIoULoss": "fake_stop:CIoULoss"}, version="0.3.0", group=GROUP)
    site.write("fake_stop", "class Stop(BaseException): pass\nraise Stop('\\x1b[31mnow')")
    LOSSES.refresh()
    assert main(["doctor"]) == 1
    assert "error: 'CIoULoss' is declared by acme-det 0.3.0" in (text := capsys.readouterr().out)
    assert "Stop: \\x1b[31mnow" in text


def test_doctor_finds_broken_packages(site: FakeSite, capsys: pytest.CaptureFixture[str]) -> None:
    site.install("acme-det", {"CIoULoss": "fake_gone:CIoULoss"}, version="0.3.0", group=GROUP)
    site.install("acme-odd", entry_points=f"[{GROUP}]\nno equals sign\n")
    LOSSES.refresh()
    for arguments in (["doctor"], ["doctor", "--strict"]):
        assert main(arguments) == 1
        lines = capsys.readouterr().out.splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        assert len(errors) == 2
        assert errors[0].startswith("error: 'CIoULoss' is declared by acme-det 0.3.0 as fake_gone:CIoULoss but could")
        assert "faulty metadata" in errors[1]


def test_doctor_finds_clashes(site: FakeSite, capsys: pytest.CaptureFixture[str]) -> None:
    install(site, "acme-seg", "DiceLoss")
    install(site, "other", "DiceLoss")
    LOSSES.refresh()
    assert main(["doctor"]) == 0
    text = "'DiceLoss' is declared by acme-seg 1.0 and other 1.0: ask for 'acme-seg:DiceLoss' or 'other:DiceLoss'."
    assert text in capsys.readouterr().out.replace("other 1.0 and acme-seg 1.0", "acme-seg 1.0 and other 1.0").replace(
        "'other:DiceLoss' or 'acme-seg:DiceLoss'", "'acme-seg:DiceLoss' or 'other:DiceLoss'"
    )
    assert main(["doctor", "--strict"]) == 1


@pytest.mark.parametrize("local", ["fake_acme_seg.py", "fake_acme_seg/__init__.py", "torch.py"])
def test_doctor_finds_local_files_in_the_way(
    site: FakeSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], local: str
) -> None:
    install(site, "acme-seg", "DiceLoss")
    LOSSES.refresh()
    assert main(["doctor", "--strict"]) == 0
    path = tmp_path / "work" / local
    path.parent.mkdir(parents=True)
    path.touch()
    (tmp_path / "work" / "losses.py").touch()  # no package of this name is installed: in nobody's way
    monkeypatch.setattr("losses_core._cli.doctor.CORE", ("losses_core", "torch"))
    capsys.readouterr()
    with monkeypatch.context() as context:
        context.chdir(tmp_path / "work")
        context.setattr(sys, "path", ["", *sys.path])
        assert main(["doctor"]) == 0
        warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
        assert len(warnings) == 1
        assert warnings[0].startswith(f"warning: {path} has the name of the package in ")
        assert main(["doctor", "--strict"]) == 1
        # the folder that the package itself is installed in
        context.chdir(site.folder)
        assert main(["doctor", "--strict"]) == 0


def test_doctor_from_a_source_tree(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import PackageNotFoundError

    def version(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("losses_core._cli.doctor.version", version)
    assert main(["doctor"]) == 0
    assert "not installed as a package" in capsys.readouterr().out
