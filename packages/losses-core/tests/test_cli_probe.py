"""`losses probe`: figures that can be computed otherwise, and what it says where it cannot run."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from losses_core import LOSSES
from losses_core._cli import _output, main
from losses_core._cli.probe import _size
from losses_core._memory import PeakMemory
from losses_core.utils.value_checks import warn_of_probabilities

from .example_losses import EXAMPLE_LOSSES, ErrorLoss

pytestmark = pytest.mark.usefixtures("losses")


@pytest.fixture(autouse=True)
def registered(losses: None) -> None:
    for cls in EXAMPLE_LOSSES:
        LOSSES.register(cls)


@pytest.fixture
def probe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(config: Any, *arguments: str) -> Any:
        path = tmp_path / "loss.json"
        path.write_text(json.dumps({"loss": config}))
        status = main(["probe", str(path), "--json", *arguments])
        printed = capsys.readouterr()
        if status:
            assert printed.out == ""
            return printed.err
        result = json.loads(printed.out)
        return {term["label"]: term for term in result["terms"]} | {"total": result["total"]}

    return run


def test_figures(probe: Any) -> None:
    terms = probe([{"type": "ErrorLoss", "loss_weight": 1.0}, {"type": "ErrorLoss", "loss_weight": 3.0}])
    inputs = ErrorLoss.example.inputs(ErrorLoss())
    value = (inputs.pred - inputs.target).abs().mean().item()
    assert terms["error"]["value"] == pytest.approx(value)
    assert terms["error_2"]["value"] == pytest.approx(3 * value)
    assert terms["total"] == pytest.approx(4 * value)
    # |d/dpred| is 1/32 at each of the 32 numbers
    assert terms["error"]["gradient"] == pytest.approx(32**-0.5)
    assert terms["error"]["share"] == pytest.approx(0.25)
    assert terms["error_2"]["share"] == pytest.approx(0.75)
    assert terms["error"]["dtype"] == "float32"
    assert terms["error"]["seconds"] > 0
    assert terms["error"]["peak_bytes"] >= 32 * 4  # the gradient


def test_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "loss.json"
    path.write_text('{"train": {"a": "ErrorLoss", "b": {"c": "LabelledLoss"}}}')
    assert main(["probe", str(path), "--key", "train"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["term", "value", "gradient", "share", "dtype", "time", "memory"]
    assert [line.split()[0] for line in lines[1:4]] == ["a", "b.c", "total"]
    assert lines[1].split()[3].endswith("%")
    assert lines[4] == ""
    assert lines[5].startswith("Balanced: the largest gradient, of ")
    assert lines[6:] == ["The inputs are random: --batch takes a batch of yours."]


def test_a_wrapped_loss_is_named(probe: Any) -> None:
    """Its call takes a head, or the predictions of several layers."""
    for name in ("ChunkedLoss", "LayeredLoss"):
        assert f"{name} takes a head or several layers" in probe({"type": name, "loss": "ErrorLoss"})


def test_dtype_and_seed(probe: Any) -> None:
    assert probe("ErrorLoss", "--dtype", "float64")["error"]["dtype"] == "float64"
    half = probe("ErrorLoss", "--dtype", "float16")["error"]
    assert half["dtype"] == "float32"
    assert half["value"] == pytest.approx(probe("ErrorLoss")["error"]["value"], rel=1e-2)
    assert probe("ErrorLoss", "--seed", "1")["total"] != probe("ErrorLoss")["total"]


def test_terms_that_predict_from_one_tensor_get_it(probe: Any) -> None:
    """Labels and pixels: images for both, with as many classes as one of them asks for."""
    terms = probe(["LabelledLoss", {"type": "PixelLoss", "class_weight": [1, 1, 1]}])
    assert terms["labelled"]["value"] == pytest.approx(terms["pixel"]["value"])
    assert terms["labelled"]["value"] == pytest.approx(
        probe("LabelledLoss", "--pred", "2x3x64x64")["labelled"]["value"]
    )


def test_shapes(probe: Any) -> None:
    config = {"a": "LabelledLoss", "b": {"c": "LabelledLoss"}, "error": "ErrorLoss"}
    terms = probe(config, "--pred", "a=2x5x9", "--pred=error=7")
    assert terms["a"]["value"] == terms["b.c"]["value"]  # of one group
    assert terms["error"]["gradient"] == pytest.approx(7**-0.5)
    assert probe("LabelledLoss", "--pred", "2x19x64x64", "--target", "2x64x64")["labelled"]["value"] > 0
    assert probe("ErrorLoss", "--pred=4x4", "--target=3").startswith("losses: term 'error'")


def test_lazy_and_learnable_parts(probe: Any) -> None:
    channels = {"type": "AdaptedLoss", "student_channels": 3, "teacher_channels": 5}
    terms = probe({"lazy": "AdaptedLoss", "sized": channels, "other": channels})
    assert all(terms[label]["gradient"] > 0 for label in ("lazy", "sized", "other"))


def test_learnable_parts_depend_on_the_seed_alone(probe: Any) -> None:
    assert len({probe("AdaptedLoss")["total"] for _ in range(2)}) == 1


def test_inputs_are_looked_up_in_one_mapping(probe: Any) -> None:
    student = {"type": "StudentLoss", "inputs": {"pred": "student.0", "target": "teacher", "labels": "labels"}}
    label = {"type": "LabelledLoss", "class_weight": [1, 2, 3], "inputs": {"pred": "student.0", "target": "labels"}}
    terms = probe({"ce": label, "student": student})
    assert terms["student"]["gradient"] > 0
    unlabelled = {"type": "StudentLoss", "inputs": {"pred": "student", "target": "teacher"}}
    error = probe({"student": unlabelled})
    assert error == "losses: term 'student': StudentLoss: the call needs labels=.\n"
    weighted = {"type": "ErrorLoss", "inputs": {"pred": "a", "target": "b", "weight": "w"}}
    assert probe({"error": weighted})["error"]["value"] == pytest.approx(probe("ErrorLoss")["total"])


@pytest.mark.parametrize(("first", "second"), [("a", "a.b"), ("a.b", "a")])
def test_inputs_that_contradict_each_other(probe: Any, first: str, second: str) -> None:
    terms = {
        f"t{i}": {"type": "ErrorLoss", "inputs": {"pred": p, "target": "t"}} for i, p in enumerate((first, second))
    }
    error = probe(terms)
    assert error.startswith("losses: term 't1': inputs.pred: ")
    assert error.count("\n") == 1


def test_no_gradient(probe: Any) -> None:
    terms = probe({"flat": "FlatLoss"})
    assert (terms["flat"]["gradient"], terms["flat"]["share"]) == (0, 0)


@pytest.mark.parametrize(
    ("config", "arguments", "expected"),
    [
        ("GapLos", (), "loss: 'GapLos' is not a registered loss. Did you mean 'GapLoss'?"),
        (["ErrorLoss", {"type": "ErrorLoss", "ep": 1}], (), "loss[1].ep: ErrorLoss has no parameter 'ep'."),
        ({"type": "ErrorLoss", "reduction": "none"}, (), "losses: term 'error': reduction='none' gives no scalar"),
        (
            "ErrorLoss",
            ("--pred", "eror=3"),
            "losses: there is no term 'eror'. Did you mean 'error'? The terms",
        ),
        (
            "LabelledLoss",
            ("--pred", "8"),
            "losses: term 'labelled': expected a pred of two axes or more, as 8x10",
        ),
        ("GapLoss", (), "losses: term 'gap': GapLoss does not say what inputs it takes. Give shapes, as --pred"),
        ("FailingLoss", (), "losses: term 'failing': RuntimeError: shape '[3]' is invalid"),
        ({"a": "ErrorLoss", "b": "FailingLoss"}, (), "losses: term 'b': RuntimeError"),
    ],
)
def test_faults(probe: Any, config: Any, arguments: tuple[str, ...], expected: str) -> None:
    error = probe(config, *arguments)
    assert error.startswith(expected)
    assert error.count("\n") == 1


def test_a_batch(probe: Any, tmp_path: Path) -> None:
    pred, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    path = tmp_path / "batch.pt"
    torch.save({"pred": pred, "target": labels, "other": labels}, path)
    found = probe({"ce": "LabelledLoss"}, "--batch", str(path))
    assert found["ce"]["value"] == pytest.approx(torch.nn.functional.cross_entropy(pred, labels).item())
    torch.save({"logits": pred, "truth": {"label": labels}}, path)
    routed = {"ce": {"type": "LabelledLoss", "inputs": {"pred": "logits", "target": "truth.label"}}}
    assert probe(routed, "--batch", str(path))["ce"]["value"] == found["ce"]["value"]
    assert "term 'ce': the batch has no 'pred' and no 'target'; it has 'logits', 'truth'" in probe(
        {"ce": "LabelledLoss"}, "--batch", str(path)
    )
    torch.save([pred, labels], path)
    assert "expected a mapping with 'pred' and 'target'; got list" in probe("LabelledLoss", "--batch", str(path))
    assert "cannot read the batch: FileNotFoundError" in probe("LabelledLoss", "--batch", str(tmp_path / "none.pt"))


def test_a_warning_of_a_term(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class WarningLoss(ErrorLoss):
        def _forward(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            warn_of_probabilities(pred)
            return pred - target

    LOSSES.register(WarningLoss)
    torch.save({"pred": torch.rand(10), "target": torch.rand(10)}, tmp_path / "batch.pt")
    (tmp_path / "loss.json").write_text('{"loss": {"a": "WarningLoss", "b": "ErrorLoss"}}')
    assert main(["probe", str(tmp_path / "loss.json"), "--batch", str(tmp_path / "batch.pt")]) == 0
    printed = capsys.readouterr()
    assert printed.err.count("warning: term 'a': pred looks like probabilities") == 1
    assert "term 'b'" not in printed.err
    assert "total" in printed.out


def test_a_loss_that_does_not_say_what_it_takes(probe: Any) -> None:
    assert probe("GapLoss", "--pred", "8x3")["gap"]["gradient"] == pytest.approx(24**-0.5)
    assert probe({"a": "GapLoss", "b": "ErrorLoss"}, "--pred", "a=5", "--target", "a=5")["a"]["gradient"] > 0
    sized = {"type": "SizedLoss", "channels": 3}
    assert "share" in probe(sized, "--pred", "8x3")["sized"]
    LOSSES.register(type("PlainLabelledLoss", (LOSSES["LabelledLoss"],), {"example": None}))
    assert probe("PlainLabelledLoss", "--pred", "8x3", "--target", "8")["plain_labelled"]["value"] > 0


@pytest.mark.parametrize("shape", ["", "x", "8x", "8,10", "a=", "-1", "8x10.5"])
def test_malformed_shape(shape: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["probe", "loss.json", f"--pred={shape}"])
    assert caught.value.code == 2
    assert "expected a shape such as 2x19x64x64" in capsys.readouterr().err


def test_peak_memory() -> None:
    x = torch.zeros(1000)
    with PeakMemory() as memory:
        x += 1
        _ = x.view(10, 100)
        assert memory.peak == 0
        y = x + 1
        y += 1
        _ = y.view(10, 100)
        assert memory.peak == 4000
        del y, _
        z = x + 1
        assert memory.peak == 4000
        _ = z + 1
    assert memory.peak == 8000
    assert [_size(count) for count in (12, 2048, 3 * 2**20, 2.5 * 2**30)] == ["12 B", "2 KiB", "3 MiB", "2.5 GiB"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("rich", [True, False])
def test_progress(rich: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not rich:
        monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setattr(_output, "PATIENCE", -1.0)
    monkeypatch.setenv("TERM", "xterm")
    for stream, expected in ((Terminal(), True), (io.StringIO(), False)):
        with _output.progress(2, stream) as step:
            step("first")
            step("second")
        text = stream.getvalue()
        assert ("second" in text) == expected
        assert (text == "") != expected
        if expected and not rich:
            assert text.endswith("\r\x1b[K")


def test_progress_of_what_is_quick() -> None:
    stream = Terminal()
    with _output.progress(2, stream) as step:
        step("first")
    assert stream.getvalue() == ""
