"""The output of the command line: tables in a terminal and in a pipe, JSON, characters that cannot be shown."""

import io
import json
import os
import re
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

from losses_core._cli import main
from losses_core._cli._output import Output

pytestmark = pytest.mark.usefixtures("losses")


def test_json_has_no_nan() -> None:
    stream = io.StringIO()
    Output(stream).json({"a": [float("nan"), float("inf"), 1.0], "ü": (-float("inf"),)})
    assert json.loads(stream.getvalue()) == {"a": ["nan", "inf", 1.0], "ü": ["-inf"]}
    assert "ü" in stream.getvalue()


def test_a_terminal_without_greek_letters() -> None:
    code = """
from losses_core import LOSSES, BaseLoss
from losses_core._cli import main
@LOSSES.register
class GreekLoss(BaseLoss):
    "With \\N{GREEK SMALL LETTER GAMMA} > 0."
    def _forward(self, pred, target): ...
main(["show", "GreekLoss"])
"""
    env = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.stdout.splitlines()[-1], done.stderr) == ("With ? > 0.", "")


class Terminal:
    """A stream that is a terminal."""

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None: ...


def test_tables_with_rich() -> None:
    pytest.importorskip("rich")
    terminal = Terminal()
    Output(terminal).table(("a", "b"), [("[bold]", "2"), ("3", "4")])  # type: ignore[arg-type]
    assert "[bold]" in terminal.text
    assert any(corner in terminal.text for corner in "┏+")


def test_tables_without_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    for name in [name for name in sys.modules if name.startswith("rich.")]:
        monkeypatch.delitem(sys.modules, name)
    terminal = Terminal()
    Output(terminal).table(("a", "b"), [("long", "2")])  # type: ignore[arg-type]
    assert terminal.text == "a     b\nlong  2\n"


@pytest.mark.parametrize("rich", [True, False])
def test_a_narrow_terminal_has_fewer_columns(rich: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if rich:
        pytest.importorskip("rich")
    else:
        monkeypatch.setitem(sys.modules, "rich.console", None)
    header, rows = ("name", "b", "c", "text"), [("n" * 20, "1", "2", "word " * 20)]
    for columns, present in (("55", ["name", "b", "c"]), ("51", ["name", "c"]), ("47", ["name"]), ("20", ["name"])):
        monkeypatch.setenv("COLUMNS", columns)
        terminal = Terminal()
        Output(terminal).table(header, rows, optional=("b", "c"))  # type: ignore[arg-type]
        lines = re.sub(r"\x1b\[[0-9;]*m", "", terminal.text).splitlines()
        if columns != "20":
            assert re.findall(r"\w+", next(line for line in lines if "name" in line)) == [*present, "text"]
        assert max(map(len, lines)) <= int(columns)
    pipe = io.StringIO()
    Output(pipe).table(header, rows, optional=("b", "c"))
    assert len(pipe.getvalue().splitlines()[1]) > 120


def test_long_rows_are_cut_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "10")
    monkeypatch.setitem(sys.modules, "rich.console", None)
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        Output(stream).table(("a", "b\nc"), [("1", "0123456789")])  # type: ignore[arg-type]
    assert terminal.text == "   b\na  c\n1  012345…\n"
    assert pipe.getvalue() == "   b\na  c\n1  0123456789\n"


def test_rich_is_used_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError

    console, table, text = (ModuleType(f"rich.{name}") for name in ("console", "table", "text"))
    console.Console, table.Table, text.Text = refuse, refuse, refuse  # type: ignore[attr-defined]
    for module in (console, table, text):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    assert main(["list"]) == 0
    assert "GapLoss" in capsys.readouterr().out
