"""What mypy knows of the facade, in an environment that holds what `pip install losses[cls]` brings, and with all."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLE = Path(__file__).parent / "facade_consumer.py"
EXPECTED = re.compile(r"# mypy: ([\w-]+)$")
FOUND = re.compile(r"^consumer\.py:(\d+): error: .*\[([\w-]+)\]$", re.MULTILINE)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mypy-cache")


def environment(folder: Path, packages: list[Path]) -> Path:
    """The Python of an environment in which exactly these folders are installed."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    (site,) = folder.glob("lib/*/site-packages") if os.name != "nt" else folder.glob("Lib/site-packages")
    (site / "packages.pth").write_text("".join(f"{package}\n" for package in packages))
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


@pytest.mark.parametrize("plugins_installed", ["cls", "all"])
def test_consumer(
    plugins_installed: str, unpacked: dict[str, Path], third_party: Path, cache: Path, tmp_path: Path
) -> None:
    """The sample passes but for the lines that say what mypy must find there."""
    chosen = ["losses", "losses-core", "losses-cls"] if plugins_installed == "cls" else list(unpacked)
    python = environment(tmp_path / "environment", [*(unpacked[name] for name in chosen), third_party])
    lines = SAMPLE.read_text(encoding="utf-8").splitlines(keepends=True)
    sample = tmp_path / "consumer.py"
    sample.write_text("".join(line for line in lines if plugins_installed == "all" or "# with all" not in line))
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={cache}", str(sample)]
    command += [f"--python-executable={python}", "--no-error-summary", "--hide-error-context", "--no-pretty"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False)
    numbered = enumerate(sample.read_text(encoding="utf-8").splitlines(), 1)
    expected = {(number, match[1]) for number, line in numbered if (match := EXPECTED.search(line))}
    found = {(int(number), code) for number, code in FOUND.findall(done.stdout)}
    assert found == expected, done.stdout + done.stderr
    assert done.stdout.count(": error: ") == len(expected) > 0
