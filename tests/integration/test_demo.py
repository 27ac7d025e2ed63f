"""The demo trains every task with every loss of its file, and its tables say what came of it, gain or loss."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
TASKS = sorted(p.stem for p in (EXAMPLES / "digits" / "tasks").glob("*.py") if not p.stem.startswith("_"))
WIDTH = 80


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "digits", *arguments]
    return subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True, timeout=600, check=False)


def losses(task: str) -> list[str]:
    """Their names, the baseline first."""
    content = yaml.safe_load((EXAMPLES / f"{task}.yaml").read_text(encoding="utf-8"))
    return [*content["beside"], content["title"]]


def test_every_task_with_every_loss(tmp_path: Path) -> None:
    done = demo("--epochs", "1", "--output", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert TASKS
    for task in TASKS:
        assert (tmp_path / f"{task}.png").read_bytes().startswith(b"\x89PNG")
        assert f"picture: {tmp_path / f'{task}.png'}" in done.stdout
    table = done.stdout[done.stdout.index("task ") :]
    rows = re.findall(r"^.{12}  (\S.*?) +[\d.]+ +(baseline|[+-][\d.]+)$", table, re.MULTILINE)
    assert [label for label, _ in rows] == [label for task in TASKS for label in losses(task)]
    assert [gain == "baseline" for _, gain in rows] == [n == 0 for task in TASKS for n, _ in enumerate(losses(task))]
    assert re.search(r"Next: edit docs/examples/\w+\.yaml and run it again", done.stdout)
    lines = [line for line in done.stdout.splitlines() if not line.startswith("picture: ")]
    assert max(map(len, lines)) <= WIDTH
    assert len(re.findall(r"^ +1( +[\d.]+)+ +[\d.]+%$", done.stdout, re.MULTILINE)) == len(TASKS)


def test_the_loss_made_for_it_helps(tmp_path: Path) -> None:
    """Trained to the end, for the task that takes least."""
    done = demo("long_tail", "--output", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    (gain,) = re.findall(r"LogitAdjustedCrossEntropyLoss +[\d.]+ +\+([\d.]+)$", done.stdout, re.MULTILINE)
    assert float(gain) > 2


@pytest.mark.parametrize(
    ("arguments", "text"),
    [(["longtail"], "no task longtail; there are detection"), (["--seeds", "0"], "invalid positive value: '0'")],
)
def test_wrong_arguments(arguments: list[str], text: str) -> None:
    done = demo(*arguments)
    assert done.returncode == 2
    assert text in done.stderr


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from digits import results

    return results


SCORES = {"CrossEntropyLoss": [0.80, 0.82, 0.84], "FocalLoss": [0.79, 0.83, 0.83], "DiceLoss": [0.70, 0.72, 0.73]}


def test_gains_are_those_of_the_same_seed(results: Any) -> None:
    rows = results.Comparison("task", Path("task.yaml"), SCORES, "IoU").rows()
    assert rows[0] == ("CrossEntropyLoss", "82.0 ± 2.0", "baseline", 0.0)
    assert rows[1] == ("FocalLoss", "81.7 ± 2.3", "-0.3 ± 1.2", 0.0)  # within the spread
    assert rows[2][:3] == ("DiceLoss", "71.7 ± 1.5", "-10.3 ± 0.6")
    assert rows[2][3] == pytest.approx(-10.33, abs=0.01)


def test_the_page_gets_the_table(results: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "demo.md"
    page.write_text("Before.\n<!-- table: written -->\nold\n<!-- end of table -->\nAfter.\n")
    monkeypatch.setattr(results, "PAGE", page)
    results.write_page([results.Comparison("task", Path("task.yaml"), SCORES, "IoU")], 3)
    lines = page.read_text().splitlines()
    assert lines[:2] == ["Before.", "<!-- table: written -->"]
    assert lines[-2:] == ["<!-- end of table -->", "After."]
    assert "old" not in lines
    assert "|  | DiceLoss | 71.7 ± 1.5 | **-10.3 ± 0.6** |" in lines


def test_the_page_is_current() -> None:
    """It has a row for each loss of each file."""
    page = (EXAMPLES.parent / "guide" / "demo.md").read_text(encoding="utf-8")
    table = page[page.index("<!-- table") :]
    rows = re.findall(r"^\| (?:`(\w+)`, .*?)? \| (\S.*?) \| [\d.]+ ± [\d.]+ \|", table, re.MULTILINE)
    assert [label for _, label in rows] == [label for task in TASKS for label in losses(task)]
    assert re.search(r"^\d{4}-\d\d-\d\d, PyTorch [\d.]+, \d+ seeds\.$", table, re.MULTILINE)
