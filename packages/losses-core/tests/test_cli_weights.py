"""`losses weights`: what it prints and writes, and its exit status."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from losses_core import get_class_weight
from losses_core._cli import _output, main
from losses_core.class_statistics import ClassStatistics, read_statistics

from .data_sets import write_coco, write_csv, write_png

LABELS = [0] * 6 + [2] * 3 + [3]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(["weights", *arguments]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out.splitlines()


def test_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(tmp_path / "a.csv", LABELS)
    assert [line.split() for line in printed(capsys, "a.csv")] == [
        ["class", "name", "count", "share", "weight"],
        ["0", "-", "6", "60.00%", "0.5556"],
        ["1", "-", "0", "0.00%", "0"],
        ["2", "-", "3", "30.00%", "1.111"],
        ["3", "-", "1", "10.00%", "3.333"],
    ]


@pytest.mark.parametrize("method", ["inverse", "sqrt_inverse", "effective_num", "median_freq"])
def test_methods(tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str) -> None:
    np.save(tmp_path / "a.npy", LABELS)
    found = json.loads("\n".join(printed(capsys, "a.npy", "--method", method, "--json")))
    assert (found["source"], found["method"]) == ("a.npy", method)
    assert [entry["weight"] for entry in found["classes"]] == get_class_weight(LABELS, method).tolist()  # type: ignore[arg-type]
    assert found["classes"][2].items() >= {"class": 2, "name": None, "count": 3, "images": 3, "share": 0.3}.items()


def test_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_coco(tmp_path / "a.json", [(1, 18), (1, 1), (2, 1), (2, 1)], {18: "dög", 1: "\x1b[31mcat", 2: "bird"})
    lines = printed(capsys, "a.json", "--out", "stats.json")
    assert [line.split()[1] for line in lines[1:4]] == ["\\x1b[31mcat", "bird", "dög"]
    assert lines[4:] == ["stats.json: written"]
    names = ["\x1b[31mcat", "bird", "dög"]
    assert read_statistics("stats.json") == ClassStatistics([3, 0, 1], [2, 0, 1], names, "a.json")
    first = (tmp_path / "stats.json").read_text()
    lines = printed(capsys, "a.json", "--out", "stats.json", "--json")
    assert json.loads("\n".join(lines))["classes"][2]["name"] == "dög"
    assert (tmp_path / "stats.json").read_text() == first


def test_a_name_that_cannot_be_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_coco(tmp_path / "a.json", [(1, 1)], {1: "a\ud800"})
    assert "a\\ud800" in "".join(printed(capsys, "a.json", "--json", "--out", "stats.json"))
    assert read_statistics("stats.json").names == ["a\ud800"]


def test_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_png(tmp_path / "masks" / "a.png", [[0, 0, 1, 255]])
    write_png(tmp_path / "masks" / "train" / "a.png", [[0, 0, 0, 0]])
    lines = printed(capsys, "masks", "--num-classes", "3", "--ignore-index", "255", "--out", "stats.json")
    assert [line.split()[2] for line in lines[1:4]] == ["6", "1", "0"]
    assert read_statistics("stats.json").images == [2, 1, 0]


def test_a_label_that_looks_ignored_is_pointed_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "a.npy", [0, 1, 255])
    assert main(["weights", "a.npy"]) == 0
    text = "warning: 255 is counted as a class. If it marks what is ignored, give --ignore-index 255.\n"
    assert capsys.readouterr().err == text
    printed(capsys, "a.npy", "--num-classes", "256")
    np.save(tmp_path / "a.npy", [254, 255])
    printed(capsys, "a.npy")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["missing.npy"], "missing.npy: cannot be read: No such file or directory"),
        (["empty"], "empty: holds no .png files."),
        (["a.csv", "--num-classes", "3"], "a.csv: expected labels in [0, 3); got 3 in line 11. If 3 marks what is to "),
        (
            ["a.csv", "--num-classes", "2", "--ignore-index", "3"],
            "a.csv: expected labels in [0, 2) or ignore_index=3; ",
        ),
        (["a.csv", "--column", "lable"], "a.csv: no column 'lable'. Did you mean 'label'?"),
        (["a.csv", "--num-classes", "0"], "num_classes: expected an integer from 1 to "),
        (["a.csv", "--out", "nowhere/stats.json"], "nowhere/stats.json: cannot be written: no folder nowhere."),
        (["a.csv", "--out", "empty/../a.csv"], "empty/../a.csv: cannot be written: it is the source."),
        (["a.csv", "--out", "empty"], "empty: cannot be written: Is a directory"),
    ],
)
def test_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str) -> None:
    (tmp_path / "empty").mkdir()
    write_csv(tmp_path / "a.csv", LABELS)
    assert main(["weights", *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"losses: {text}")
    assert captured.err.count("\n") == 1


def test_as_a_process(tmp_path: Path) -> None:
    """Where warnings are errors; the files are found from the working directory."""
    command = [sys.executable, "-W", "error", "-m", "losses_core", "weights"]

    def run(*arguments: str) -> Any:
        return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120, check=False)

    write_png(tmp_path / "masks" / "a.png", [[0, 2, 2, 255]])
    np.save(tmp_path / "a.npy", np.array([[0, 2], [2, 0]], np.uint8))
    done = run("masks", "--ignore-index", "255", "--out", "stats.json")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "stats.json: written"
    assert json.loads((tmp_path / "stats.json").read_text()) == {
        "counts": [1, 0, 2],
        "images": [1, 0, 1],
        "names": None,
        "num_classes": 3,
        "source": "masks",
    }
    done = run("a.npy", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert [entry["count"] for entry in json.loads(done.stdout)["classes"]] == [2, 0, 2]
    done = run("masks", "--num-classes", "2")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"losses: {Path('masks', 'a.png')}: expected labels in [0, 2); got 2 at [0, 1]. "
        "If 2 marks what is to be ignored, set ignore_index=2 (--ignore-index 2).\n"
    )
    assert run("masks", "--method", "inv").returncode == 2


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


def test_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar on a terminal, of the files."""
    for name in ("rich", *(name for name in sys.modules if name.startswith("rich."))):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(_output, "PATIENCE", -1.0)
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    for name in ("a", "b"):
        write_png(tmp_path / f"{name}.png", [[0]])
    assert main(["weights", str(tmp_path)]) == 0
    assert "0 of 2 done, now a.png" in terminal.text
    assert "1 of 2 done, now b.png" in terminal.text
    assert terminal.text.endswith("\r\x1b[K")
