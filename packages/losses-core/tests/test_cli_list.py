"""`losses list`: names, tasks, descriptions and aliases, without an import."""

import json
import re
import sys

import pytest

from losses_core import LOSSES
from losses_core._cli import main
from losses_core._sources import _parsed, summary_of
from losses_testkit.fake_distributions import FakeSite

from .conftest import GROUP, install

pytestmark = pytest.mark.usefixtures("losses")


def rows_of(text: str) -> dict[str, list[str]]:
    """The rows of a table by their first cell."""
    return {cells[0]: cells for cells in (re.split(" {2,}", line) for line in text.splitlines() if line)}


def test_list(site: FakeSite, capsys: pytest.CaptureFixture[str]) -> None:
    module = install(site, "acme-seg", "DiceLoss", version="0.3.0")
    install(site, "other", "DiceLoss")
    LOSSES.refresh()
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    rows = rows_of(text)
    assert rows["name"] == ["name", "task", "distribution", "version", "description"]
    assert rows["acme-seg:DiceLoss"] == ["acme-seg:DiceLoss", "-", "acme-seg", "0.3.0", "-"]
    assert rows["other:DiceLoss"] == ["other:DiceLoss", "-", "other", "1.0", "-"]
    assert rows["GapLoss"] == ["GapLoss", "-", "-", "-", "|pred - target|."]
    starts = {tuple(cell.start() for cell in re.finditer(r"(?:^|(?<=  ))\S", line)) for line in text.splitlines()}
    assert len(starts) == 1  # columns
    assert module not in sys.modules


def test_list_says_task_and_description_and_marks_aliases(site: FakeSite, capsys: pytest.CaptureFixture[str]) -> None:
    """From metadata and sources: the modules raise where they are imported."""
    source = '''
raise ImportError
class RingLoss(BaseLoss):
    """Ring loss: with :math:`\\gamma \\ge 0` and ``eps``,
    over two lines.

    More.
    """
class OtherLoss(RingLoss): ...
'''
    site.install(
        "acme-det",
        {
            "RingLoss": "fake_acme_det.part:RingLoss",
            "OldRingLoss": "fake_acme_det.part:RingLoss",
            "ThirdLoss": "fake_acme_det:OtherLoss",
            "GoneLoss": "fake_gone:GoneLoss",
        },
        metadata="Metadata-Version: 2.1\nName: acme-det\nVersion: 2.0\nKeywords: loss,Object-Detection,segmentation\n",
        modules={
            "fake_acme_det.part": "from ._inner.deep import RingLoss, OtherLoss as OtherLoss",
            "fake_acme_det._inner.deep": source,
        },
        group=GROUP,
    )
    site.folder.joinpath("fake_acme_det/__init__.py").write_text(
        "from fake_acme_det.part import OtherLoss\nraise ImportError"
    )
    LOSSES.refresh()
    assert main(["list", "--json"]) == 0
    found = {loss["name"]: loss for loss in json.loads(capsys.readouterr().out)}
    ring = "Ring loss: with γ ≥ 0 and eps, over two lines."
    for name, description, alias_of in (
        ("RingLoss", ring, None),
        ("OldRingLoss", ring, "RingLoss"),
        ("ThirdLoss", "", None),
        ("GoneLoss", "", None),
    ):
        said = {key: found[name][key] for key in ("task", "description", "alias_of")}
        assert said == {"task": "detection", "description": description, "alias_of": alias_of}
    assert found["GapLoss"]["task"] is None
    assert main(["list"]) == 0
    rows = rows_of(capsys.readouterr().out)
    assert rows["OldRingLoss"][-1] == "alias of RingLoss"
    assert rows["GoneLoss"][-1] == "-"
    assert not [name for name in sys.modules if name.startswith("fake_acme_det")]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("class ALoss: 'Text.'", "Text."),
        ("class ALoss: pass", ""),
        ("class BLoss: 'Text.'", ""),
        ("class ALoss(", ""),
        ("from fake_loop import ALoss", ""),
        ("from fake_nowhere import ALoss", ""),
        ("from . import ALoss", ""),
    ],
)
def test_summary_of_a_source(site: FakeSite, source: str, expected: str) -> None:
    _parsed.cache_clear()
    site.write("fake_loop", source)
    assert summary_of("fake_loop:ALoss") == expected
    assert "fake_loop" not in sys.modules


def test_list_pattern(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "S*LOSS"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["name", "SizedLoss", "SquareLoss"]
    assert main(["list", "banana"]) == 1
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "losses: no installed loss matches 'banana'.\n")


def test_list_where_nothing_is_installed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(LOSSES, "_registered", {})
    assert main(["list"]) == 1
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert printed.err.startswith("losses: no package with losses is installed. There are losses-cls, ")
