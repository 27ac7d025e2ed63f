"""The demo trains every task to its goal, prints the terms and leaves the pictures where it says."""

import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def test_demo(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "digits", "--seeds", "1", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    tasks = [path.stem for path in (EXAMPLES / "digits" / "tasks").glob("*.py") if not path.stem.startswith("_")]
    assert tasks
    for task in tasks:
        picture = tmp_path / f"{task}.png"
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert f"curves: {picture}" in done.stdout
        assert (EXAMPLES / f"{task}.yaml").exists()
    epochs = re.findall(r"^epoch +\d+ .* total [\d.]+ ", done.stdout, re.MULTILINE)
    assert len(epochs) >= 5 * len(tasks)


def test_unknown_task() -> None:
    command = [sys.executable, "-m", "digits", "clasification"]
    done = subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "no task clasification; there are classification" in done.stderr
