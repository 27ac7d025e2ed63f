"""Files from anywhere give a `LossesError` in bounded time, of bounded length, and without escapes for a terminal."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from losses_core import CombinedLoss, ConfigError, LossesError, build_loss, load_config
from losses_core._suggest import printable, shown
from losses_core.builder import find_faults

from .conftest import only_fault
from .small_losses import GapLoss

pytest.importorskip("yaml")
pytestmark = pytest.mark.usefixtures("losses")

HEX = "0x" + "f" * 4000
MILLION = "x" * 1_000_000


def weighted(schedules: Any) -> dict[str, Any]:
    weighting = {"type": "ScheduledWeighting", "schedules": schedules}
    return {"type": "CombinedLoss", "losses": {"a": "GapLoss"}, "weighting": weighting}


FILES = {
    "hexadecimal value": ("a.yaml", f"loss: {{type: GapLoss, eps: {HEX}}}"),
    "hexadecimal key": ("a.yaml", f"loss: {{type: GapLoss, {HEX[:300]}: 1}}"),
    "hexadecimal type": ("a.yaml", f"loss: {{type: {HEX[:300]}}}"),
    "hexadecimal label": ("a.yaml", f"loss: {{{HEX[:300]}: GapLoss}}"),
    "base 60": ("a.yaml", "loss: {type: GapLoss, eps: 1" + ":1" * 300_000 + "}"),
    "base 60, float": ("a.yaml", "loss: {type: GapLoss, eps: 1" + ":1" * 300_000 + ".5}"),
    "digits": ("a.yaml", "loss: {type: GapLoss, eps: " + "9" * 600_000 + "}"),
    "escape in a value": ("a.yaml", 'loss: {type: GapLoss, reduction: "\\e[31m\\a"}'),
    "escape in a key": ("a.yaml", 'loss: {type: GapLoss, "\\e[31m": 1}'),
    "escape in a label": ("a.yaml", 'loss: {"\\e[31m": GapLoss}'),
    "escape in a name": ("a.yaml", 'loss: {type: GapLoss, loss_name: "\\e[31m"}'),
    "escape in the file": ("a.yaml", '"\\e[31m": 1'),
    "escape in a repeated key": ("a.yaml", 'loss: {"\\e[31m": 1, "\\e[31m": 2}'),
    "right to left": ("a.yaml", "loss: \u202eGapLoss"),
    "long key of TOML": ("a.toml", ".".join("a" * 100_000) + " = 1"),
    "long quoted key of TOML": ("a.toml", ".".join(["'a'"] * 100_000) + " = 1"),
    "a large file": ("a.json", json.dumps({"loss": "x" * 3_000_000})),
}
CONFIGS = {
    "steps": weighted({"a": {"type": "linear", "steps": int("9" * 401)}}),
    "value": weighted({"a": {"type": "constant", "value": int("9" * 401)}}),
    "loss_weight": {"type": "GapLoss", "loss_weight": int("9" * 401)},
    "64 bits": {"type": "GapLoss", "loss_weight": 2**63},
    "long value": {"type": "GapLoss", "reduction": MILLION},
    "long number": {"type": "GapLoss", "eps": MILLION},
    "long key": {"type": "GapLoss", MILLION: 1},
    "long label": {MILLION: "GapLoss"},
    "long name": MILLION,
    "long name of a loss": {"type": "GapLoss", "loss_name": MILLION},
    "long label, many entries": {MILLION: {f"a{i}": 3 for i in range(20_000)}},
    "long values": {"type": "GapLoss", "loss_weight": [MILLION] * 3},
    "long label of a schedule": weighted({MILLION: {"type": "constant"}}),
    "long type of a schedule": weighted({"a": {"type": MILLION}}),
    "long parameter of a schedule": weighted({"a": {"type": "constant", MILLION: 1}}),
    "odd parameter of a schedule": weighted({"a": {"type": "constant", 3: 1}}),
    "odd label of a schedule": weighted({int("9" * 4000): {"type": "constant"}}),
    "many schedules": weighted({f"a{i}": {"type": "constant"} for i in range(20_000)}),
    "long argument": {"type": "GapLoss", "inputs": {MILLION: MILLION}},
    "long path": {"type": "GapLoss", "inputs": {"pred": "." * 1_000_000, "target": "a"}},
    "many wrong names": [f"GapLos{i}" for i in range(20_000)],
    "many wrong parameters": {"type": "GapLoss", **{f"epz{i}": 1 for i in range(20_000)}},
    "many losses": ["GapLoss"] * 20_000,
    "many losses that are given": [GapLoss()] * 20_000,
}


def check(error: LossesError) -> None:
    for text in (str(error), *getattr(error, "__notes__", ())):
        assert len(text) < 5000
        assert all(character.isprintable() or character == "\n" for character in text)
    assert len(getattr(error, "__notes__", ())) <= 100


@pytest.mark.parametrize("name", FILES)
def test_files(name: str, tmp_path: Path) -> None:
    path = tmp_path / FILES[name][0]
    path.write_text(FILES[name][1], encoding="utf-8")
    start = time.perf_counter()
    with pytest.raises(LossesError) as caught:
        build_loss(load_config(path))
    assert time.perf_counter() - start < 10
    check(caught.value)


@pytest.mark.parametrize("name", CONFIGS)
def test_configs(name: str) -> None:
    start = time.perf_counter()
    faults = find_faults(CONFIGS[name])
    assert time.perf_counter() - start < 10
    assert 0 < len(faults) <= 101
    with pytest.raises(ConfigError) as caught:
        build_loss(CONFIGS[name])
    assert str(caught.value) == str(faults[0])
    check(caught.value)


def test_thousands_of_losses_take_a_time_that_grows_with_their_number() -> None:
    start = time.perf_counter()
    criterion = build_loss(["GapLoss"] * 2000)
    assert isinstance(criterion, CombinedLoss)
    assert time.perf_counter() - start < 8
    assert list(criterion)[:3] == ["gap", "gap_2", "gap_3"]
    assert list(criterion)[-1] == "gap_2000"


def test_faults_beyond_the_hundredth_are_not_listed() -> None:
    faults = find_faults([{"type": "GapLoss", "epz": 1}] * 200)
    assert len(faults) == 101
    assert str(faults[-1]) == "loss: has more faults, which are not listed."


def test_shared_parts_that_stand_for_too_many_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("losses_core._reading.MAX_NODES", 10_000)
    config: Any = ["GapLoss"]
    for _ in range(25):
        config = [config, config]
    assert "has more than 10,000 entries" in str(find_faults(config)[0])


def test_large_integers_are_shown_in_short() -> None:
    assert shown(10**20) == "1" + "0" * 20
    assert shown(1 << 20_000) == "0x100000000000000000... (an integer of 20001 bits)"
    assert only_fault({"type": "GapLoss", "loss_weight": 2**70}) == (
        f"loss: GapLoss: loss_weight: expected a number, an integer of at most 64 bits or a float; got {2**70}."
    )


def test_text_for_a_terminal() -> None:
    assert printable("plain × π\nnext", 80) == "plain × π\nnext"
    assert printable("\x1b[2J\x9b\u202e", 80) == "\\x1b[2J\\x9b\\u202e"
    for text in ("x" * 1000, "\x1b" * 1000):
        short = printable(text, 100)
        assert len(short) <= 100
        assert printable(short, 100) == short
    error = ConfigError("\x1b[31m" + MILLION, "\a", "\b")
    assert error.path == "\\x07"
    assert error.hint == "\\x08"
    check(error)


def test_numbers_of_integer_parameters() -> None:
    for given in (3.0, 3):
        assert build_loss({"type": "GapLoss", "steps": given}).steps == 3
    assert type(build_loss({"type": "GapLoss", "steps": 3.0}).steps) is int

    schedule = build_loss(weighted({"a": {"type": "linear", "steps": 1e3}})).weighting.schedules["a"]
    assert schedule(torch.tensor(500)).item() == 0.5
