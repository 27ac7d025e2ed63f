"""`losses probe`: what it says of the weights, names in place of a file, and how it takes times."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import Tensor

from losses_core import LOSSES, examples
from losses_core._cli import main
from losses_core._probe import RUNS, WARM_UP, Measured, _times, verdict
from losses_core.utils.value_checks import debug_active

from .example_losses import EXAMPLE_LOSSES, ErrorLoss
from .small_losses import SizedLoss

pytestmark = pytest.mark.usefixtures("losses")


@pytest.fixture(autouse=True)
def registered(losses: None) -> None:
    for cls in EXAMPLE_LOSSES:
        LOSSES.register(cls)


@pytest.fixture
def probe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(config: Any) -> Any:
        path = tmp_path / "loss.json"
        path.write_text(json.dumps({"loss": config}))
        assert main(["probe", str(path), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def term(label: str, gradient: float, loss_weight: float = 1.0) -> Measured:
    return Measured(label, 1.0, gradient, "float32", 1.0, 1, loss_weight)


def test_the_balanced_weight_balances(probe: Any) -> None:
    terms = {
        "a": {"type": "ErrorLoss", "loss_weight": 5.0},
        "b": "CurvedLoss",
        "c": {"type": "ErrorLoss", "loss_weight": 0.5},
    }
    found = probe(terms)
    assert found["verdict"]["dominant"] == "a"
    assert "'a' dominates: its gradient is" in found["verdict"]["text"]
    terms["a"]["loss_weight"] = found["verdict"]["balanced_weight"]  # type: ignore[index]
    balanced = probe(terms)
    gradients = {found["label"]: found["gradient"] for found in balanced["terms"]}
    assert gradients["a"] == pytest.approx((gradients["b"] + gradients["c"]) / 2)
    assert balanced["verdict"]["dominant"] != "a"


def test_weights_of_the_combinations_that_a_term_is_in(probe: Any) -> None:
    plain = probe({"a": "ErrorLoss"})["terms"][0]
    inner = {"type": "CombinedLoss", "losses": {"a": {"type": "ErrorLoss", "loss_weight": 3.0}}, "loss_weight": 0.5}
    found = probe({"type": "CombinedLoss", "losses": {"b": inner, "c": "ErrorLoss"}, "loss_weight": 2.0})
    first, second = found["terms"]
    assert (first["label"], first["loss_weight"]) == ("b.a", 3)
    assert first["value"] == pytest.approx(3 * plain["value"])
    assert first["gradient"] == pytest.approx(3 * plain["gradient"])
    assert second["gradient"] == pytest.approx(2 * plain["gradient"])
    assert found["total"] == pytest.approx(5 * plain["value"])


@pytest.mark.parametrize(
    ("terms", "dominant", "weight", "text"),
    [
        ([term("a", 1.0)], None, None, "One term: there is nothing to balance."),
        (
            [term("a", 8.0, 2.0), term("b", 1.0)],
            "a",
            0.25,
            "'a' dominates: its gradient is 8 times that of the other term. "
            "loss_weight: 0.25 instead of 2 would balance it.",
        ),
        (
            [term("a", 1.0), term("b", 2.0), term("c", 6.0)],
            "c",
            0.25,
            "'c' dominates: its gradient is 4 times the mean of the other 2. "
            "loss_weight: 0.25 instead of 1 would balance it.",
        ),
        (
            [term("a", 2.0), term("b", 1.0)],
            None,
            None,
            "Balanced: the largest gradient, of 'a', is 2 times that of the other term.",
        ),
        (
            [term("a", 2.0), term("b", 1.0), term("c", 0.0)],
            None,
            None,
            "Balanced: the largest gradient, of 'a', is 2 times that of the other term. 'c': no gradient.",
        ),
        (
            [term("a", 2.0), term("c", 0.0)],
            None,
            None,
            "At most one term has a gradient: there is nothing to balance. 'c': no gradient.",
        ),
        ([term("a", 2.0), term("c", float("nan"))], None, None, "'c': the gradient is not finite."),
    ],
)
def test_verdict(terms: list[Measured], dominant: str | None, weight: float | None, text: str) -> None:
    assert verdict(terms) == (dominant, weight, text)


def test_names_in_place_of_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "ErrorLoss", "--pred", "4x4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["term", "error", "total"]
    assert lines[-1] == "One term: there is nothing to balance."
    assert main(["probe", "ErrorLoss", "CurvedLoss", "ErrorLoss"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:4]] == ["error", "curved", "error_2"]


def test_a_name_of_a_loss_with_required_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    sized = type("SizedExampleLoss", (SizedLoss,), {"example": examples.VALUES.built_with(channels=4)})
    LOSSES.register(sized)
    assert main(["probe", "SizedExampleLoss"]) == 0
    assert "sized_example" in capsys.readouterr().out


@pytest.mark.parametrize("names", [["ErorLoss"], ["ErrorLoss", "loss.yaml"], ["loss.txt"]])
def test_neither_a_loss_nor_a_file(names: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", *names]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith(f"losses: {names[-1]!r} is not a registered loss.")
    assert "Expected the name of a loss, or one file that ends in .yaml, .yml, .json, .toml.\n" in printed.err


def test_a_weighting_is_not_applied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weighting = {"type": "UncertaintyWeighting"}
    config = {"type": "CombinedLoss", "losses": {"a": "ErrorLoss", "b": "CurvedLoss"}, "weighting": weighting}
    (tmp_path / "loss.json").write_text(json.dumps({"loss": config}))
    assert main(["probe", str(tmp_path / "loss.json")]) == 0
    assert capsys.readouterr().err == (
        "warning: UncertaintyWeighting is not applied: the weights are those of loss_weight alone.\n"
    )


def test_times_are_taken_after_a_warm_up(probe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The median of many runs, in which values are not checked."""
    checked: list[bool] = []

    class CountedLoss(ErrorLoss):
        def _forward(self, pred: Tensor, target: Tensor) -> Tensor:
            checked.append(debug_active())
            return super()._forward(pred, target)

    durations = [*(1e-2 for _ in range(WARM_UP)), *(1e-4 * run for run in range(RUNS))]
    ticks = iter([tick for duration in durations for tick in (0.0, duration)])
    monkeypatch.setattr("losses_core._probe.time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    LOSSES.register(CountedLoss)
    (found,) = probe("CountedLoss")["terms"]
    assert checked == [True, *[False] * (1 + WARM_UP + RUNS)]
    assert found["seconds"] == pytest.approx(1e-4 * (RUNS // 2))


def test_a_slow_term_is_run_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([tick for _ in range(9) for tick in (0.0, 0.4)])
    monkeypatch.setattr("losses_core._probe.time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    assert len(_times(lambda: None, RUNS, 1.0)) == 3
    assert len(_times(lambda: None, WARM_UP, 0.2)) == 1
