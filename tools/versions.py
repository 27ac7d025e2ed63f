"""The versions of torch and Python that are tested, and the results: docs/versions.json, from which pages are made.

python tools/versions.py

runs the contract in this environment, prints the table of all versions, and keeps the counts, except where options of
pytest select some of the tests. `nox -s versions` runs it in an environment of each version.
"""

from __future__ import annotations

import datetime
import json
import platform
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = Path("docs", "versions.json")

MATRIX = {"2.6.0": "3.11", "2.10.0": "3.12", "2.13.0": "3.11", "2.15.0": "3.13", "nightly": "3.13"}
"""Version of torch → that of Python: the oldest, one between, the one of constraints.txt, the newest, that to come."""

RELEASES = [version for version in MATRIX if version != "nightly"]

NIGHTLY = ("--pre", "--index-url", "https://download.pytorch.org/whl/nightly/cpu", "torch")

LEFT_TO_ONE_VERSION = ("cli", "builder", "config", "registry", "schema", "untrusted", "examples", "hints", "names")
"""Tests that compute no loss; all others of the packages are run on each version."""

COLUMNS = ("python", "system", "passed", "failed", "skipped", "date")

Row = dict[str, str | int]


def chosen(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The versions that the arguments of the session begin with, else all releases; and the options for pytest."""
    options = list(arguments)
    versions = []
    while options and not options[0].startswith("-"):
        versions.append(options.pop(0))
    if unknown := [version for version in versions if version not in MATRIX]:
        raise SystemExit(f"expected versions of {', '.join(MATRIX)}, then options of pytest; got {', '.join(unknown)}")
    return versions or RELEASES, options


def requirement(version: str) -> Sequence[str]:
    """What pip installs for a version of torch."""
    return NIGHTLY if version == "nightly" else [f"torch=={version}"]


def unpinned(requirements: Sequence[str], folder: str | Path) -> dict[str, str]:
    """The variables that hold an installer to constraints.txt for these alone, and not for what torch brings along."""
    wanted = {_name(line) for line in requirements}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    path = Path(folder).resolve() / "constraints.txt"
    path.write_text("".join(line for line in lines if _name(line) in wanted), encoding="utf-8")
    return {"PIP_CONSTRAINT": str(path), "UV_CONSTRAINT": str(path)}


def _name(line: str) -> str:
    return re.split(r"[^\w.-]", line.strip(), maxsplit=1)[0].lower()


def command(package: Path, report: Path, options: Sequence[str]) -> list[str]:
    """Run the contract of a package, on as many processes as there are processors."""
    left = [f"--ignore-glob=*/test_{subject}*.py" for subject in LEFT_TO_ONE_VERSION]
    workers = ["--numprocesses=auto", "--maxprocesses=4", "--dist=worksteal"]
    pytest = [sys.executable, "-m", "pytest", str(package / "tests"), *left, *workers, "--tb=short"]
    return [*pytest, f"--junitxml={report}", *options]


def count(reports: Sequence[Path]) -> Row:
    """What the reports of pytest add up to."""
    total = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    for report in reports:
        for suite in ElementTree.parse(report).iter("testsuite"):
            for name in total:
                total[name] += int(suite.get(name, 0))
    failed = total["failures"] + total["errors"]
    return {"passed": total["tests"] - failed - total["skipped"], "failed": failed, "skipped": total["skipped"]}


def table(rows: dict[str, Row]) -> Iterator[str]:
    """The lines of the table, newest version last."""
    yield f"| PyTorch | {' | '.join(COLUMNS)} |".replace("python", "Python")
    yield f"| --- |{' --- |' * len(COLUMNS)}"
    for version, row in sorted(rows.items(), key=lambda item: [int(n) for n in re.findall(r"\d+", item[0])]):
        yield f"| {version} | {' | '.join(str(row[name]) for name in COLUMNS)} |"


def add(version: str, counted: Row, results: Path, keep: bool) -> dict[str, Row]:
    """All rows, with one of this environment; written if they are to be kept."""
    rows: dict[str, Row] = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    row: Row = {"python": platform.python_version(), "system": platform.system(), **counted, "date": today}
    rows[version.partition("+")[0]] = row
    if keep:
        results.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return rows


def main(options: Sequence[str]) -> int:
    import torch

    folder = ROOT / "build" / "versions" / torch.__version__
    reports = []
    for package in sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml")):
        reports.append(folder / f"{package.name}.xml")
        subprocess.run(command(package, reports[-1], options), cwd=ROOT, check=False)
    counted = count(reports)
    print("\n".join(table(add(torch.__version__, counted, ROOT / RESULTS, keep=not options))))
    return 1 if counted["failed"] or not counted["passed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
