"""`losses plot`: the numbers it draws, the file it writes, and what it refuses."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from losses_core import LOSSES, examples
from losses_core._cli import main
from losses_core._cli.plot import COLOURS

from .example_losses import EXAMPLE_LOSSES, CurvedLoss, ErrorLoss

pytestmark = pytest.mark.usefixtures("losses")


@pytest.fixture(autouse=True)
def registered(losses: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for cls in EXAMPLE_LOSSES:
        LOSSES.register(cls)


@pytest.fixture
def numbers(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str) -> Any:
        assert main(["plot", *arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def test_numbers(numbers: Any) -> None:
    plot = numbers("CurvedLoss")
    assert (plot["losses"], plot["x"], plot["gradient_by"]) == (["CurvedLoss"], "error, in units of pred", "the error")
    (line,) = plot["lines"]
    assert (line["x"][0], line["x"][-1]) == (-3, 3)
    assert line["value"] == pytest.approx([x * x for x in line["x"]])
    assert line["gradient"] == pytest.approx([2 * x for x in line["x"]])


def test_vary(numbers: Any) -> None:
    plot = numbers("CurvedLoss", "--vary", "loss_weight=0.5,2", "--vary", "reduction=sum,none")
    assert [line["options"] for line in plot["lines"]] == [
        f"loss_weight={weight}, reduction={reduction}" for weight in (0.5, 2) for reduction in ("sum", "none")
    ]
    for line, weight in zip(plot["lines"], (0.5, 0.5, 2, 2), strict=True):
        assert line["value"] == pytest.approx([weight * x * x for x in line["x"]])


def test_vary_lists(numbers: Any) -> None:
    plot = numbers("LabelledLoss", "--vary", "class_weight=[1,1],[2,5],null", "--vary=reduction=sum")
    for line, weight in zip(plot["lines"], (1, 2, 1), strict=True):
        assert line["value"] == pytest.approx([weight * math.log1p(math.exp(-x)) for x in line["x"]])


def test_keywords_and_learnable_parts(numbers: Any) -> None:
    (line,) = numbers("StudentLoss")["lines"]
    assert min(line["value"]) == pytest.approx(0, abs=1e-3)
    assert line["x"][line["value"].index(min(line["value"]))] == pytest.approx(2, abs=0.05)
    found = []
    for seed in range(2):  # of what ran before
        torch.manual_seed(seed)
        found.append(numbers("AdaptedLoss", "--vary=student_channels=3", "--vary=teacher_channels=5"))
    assert found[0] == found[1]


def test_in_evaluation_mode(numbers: Any) -> None:
    assert min(numbers("TrainedLoss")["lines"][0]["value"]) == pytest.approx(0)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["png", "svg"])
def test_files(theme: str, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = f"curve.{kind}"
    assert main(["plot", "CurvedLoss", "--vary", "loss_weight=1,2", "--theme", theme, "-o", file]) == 0
    assert capsys.readouterr().out == f"{file}: written\n"
    content = Path(file).read_bytes()
    assert content.startswith(b"\x89PNG" if kind == "png" else b"<?xml")
    if kind == "svg":
        page, other = (b"#ffffff", b"#0d1117") if theme == "light" else (b"#0d1117", b"#ffffff")
        assert page in content
        assert other not in content
        # texts are drawn as shapes, with a comment that says what they are
        for text in ("loss_weight=2", "d loss / d error", "error, in units of pred", "CurvedLoss"):
            assert f"<!-- {text} -->".encode() in content


def test_several_losses(numbers: Any) -> None:
    plot = numbers("CurvedLoss", "ErrorLoss", "CurvedLoss")
    assert plot["losses"] == ["CurvedLoss", "ErrorLoss"]
    assert [line["loss"] for line in plot["lines"]] == ["CurvedLoss", "ErrorLoss"]
    for line, value in zip(plot["lines"], (lambda x: x * x, abs), strict=True):
        assert line["value"] == pytest.approx([value(x) for x in line["x"]])


def test_a_parameter_goes_to_the_losses_that_have_it(numbers: Any) -> None:
    plot = numbers("CurvedLoss", "ErrorLoss", "--vary", "margin=1,2")
    assert [(line["loss"], line["options"]) for line in plot["lines"]] == [
        ("CurvedLoss", ""),
        ("ErrorLoss", "margin=1"),
        ("ErrorLoss", "margin=2"),
    ]


def test_the_legend_of_several_losses() -> None:
    """An entry for each colour and each style; as many colours as losses."""
    assert main(["plot", "ErrorLoss", "CurvedLoss", "--vary", "margin=1,2", "-o", "a.svg"]) == 0
    content = Path("a.svg").read_text(encoding="utf-8")
    for text in ("ErrorLoss, margin=1", "ErrorLoss, margin=2", "CurvedLoss", "ErrorLoss, CurvedLoss"):
        assert content.count(f"<!-- {text} -->") == 1
    assert all(colour in content for colour in COLOURS["light"][:3])
    assert COLOURS["light"][3] not in content
    LOSSES.register(type("FirstBoxLoss", (ErrorLoss,), {"example": examples.BOXES}))
    LOSSES.register(type("SecondBoxLoss", (CurvedLoss,), {"example": examples.BOXES}))
    assert main(["plot", "FirstBoxLoss", "SecondBoxLoss", "-o", "b.svg"]) == 0
    content = Path("b.svg").read_text(encoding="utf-8")
    for text in ("FirstBoxLoss", "SecondBoxLoss", "box of the target's size", "box twice as wide"):
        assert content.count(f"<!-- {text} -->") == 1


def test_default_file_of_several() -> None:
    assert main(["plot", "CurvedLoss", "ErrorLoss"]) == 0
    assert Path("CurvedLoss-ErrorLoss.png").stat().st_size > 10_000


def test_default_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plot", "CurvedLoss"]) == 0
    assert Path("CurvedLoss.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("GapLos",), "losses: 'GapLos' is not a registered loss. Did you mean 'GapLoss'?"),
        (("GapLoss",), "losses: GapLoss does not say along what it can be drawn: give the class an example"),
        (("CurvedLoss", "--vary", "los_weight=1"), "losses: --vary.los_weight: CurvedLoss has no parameter"),
        (("CurvedLoss", "--vary", "loss_weight=1,x"), "losses: --vary.loss_weight: expected a number"),
        (
            ("CurvedLoss", "LabelledLoss"),
            "losses: CurvedLoss is drawn along 'error, in units of pred' and LabelledLoss along \"logit of the true",
        ),
        (("CurvedLoss", "GapLoss"), "losses: GapLoss does not say along what it can be drawn"),
        (
            ("CurvedLoss", "ErrorLoss", "--vary", "los_weight=1"),
            "losses: --vary.los_weight: CurvedLoss has no parameter",
        ),
        (
            ("CurvedLoss", "ErrorLoss", "--vary", "loss_weight=1,2,3,4"),
            "losses: --vary: expected at most 6 combinations",
        ),
        (("SizedLoss",), "losses: --vary: SizedLoss needs the parameter 'channels'"),
        (("CurvedLoss", "--vary", "loss_weight=1,2,3,4,5,6,7"), "losses: --vary: expected at most 6 combinations"),
        (("CurvedLoss", "-o", "a.banana"), "losses: a.banana: expected a file that ends in "),
        (("CurvedLoss", "-o", "nowhere/a.png"), "losses: nowhere/a.png: cannot be written: No such file"),
    ],
)
def test_faults(arguments: tuple[str, ...], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plot", *arguments]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(expected)
    assert printed.err.count("\n") == 1
    assert not list(Path().iterdir())


@pytest.mark.parametrize("text", ["gamma", "gamma=", "=1"])
def test_malformed_vary(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["plot", "CurvedLoss", "--vary", text])
    assert "expected a parameter and its values, as gamma=0,1,2,5" in capsys.readouterr().err


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], numbers: Any) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["plot", "CurvedLoss"]) == 1
    assert capsys.readouterr().err == (
        "losses: drawing needs matplotlib: pip install matplotlib (--json gives the numbers)\n"
    )
    assert numbers("CurvedLoss")["lines"]
