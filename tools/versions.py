"""The versions of torch and Python that are tested, and the results: docs/versions.json, from which pages are made.

python tools/versions.py build/versions/2.6.0 --keep

counts what pytest has reported there, in the environment that ran it, prints the table of all versions, and keeps the
counts with `--keep`. `nox -s versions` runs it.
"""

from __future__ import annotations

import datetime
import json
import platform
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = Path("docs", "versions.json")

MATRIX = {"2.6.0": "3.12", "2.10.0": "3.13", "2.13.0": "3.11", "2.15.0": "3.13", "nightly": "3.13"}
"""Version of torch → that of Python: the oldest, one between, the one of constraints.txt, the newest, that to come."""

RELEASES = [version for version in MATRIX if version != "nightly"]
OLDEST = RELEASES[0]

NIGHTLY_INDEX = "https://download.pytorch.org/whl/nightly/cpu"

Row = dict[str, str | int]


def chosen(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The versions that the arguments of the session begin with, else all releases; and the arguments for pytest."""
    versions = [argument for argument in arguments if argument in MATRIX]
    rest = list(arguments[len(versions) :])
    if versions != list(arguments[: len(versions)]) or (rest and not rest[0].startswith("-")):
        raise SystemExit(f"expected versions of {', '.join(MATRIX)}, then options of pytest; got {' '.join(arguments)}")
    return versions or RELEASES, rest


def requirement(version: str) -> list[str]:
    """What pip installs for a version of torch."""
    return ["--pre", "--index-url", NIGHTLY_INDEX, "torch"] if version == "nightly" else [f"torch=={version}"]


def constraints(pinned: str, names: Sequence[str]) -> str:
    """The lines of constraints.txt for these requirements: others are what torch brings along, in other versions."""
    wanted = {_normal(name) for name in names}
    return "".join(line for line in pinned.splitlines(keepends=True) if _normal(line) in wanted)


def _normal(line: str) -> str:
    return re.split(r"[^\w.-]", line.strip(), maxsplit=1)[0].lower()


def count(folder: Path) -> Row:
    """What the reports of pytest in a folder add up to."""
    total = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    for report in folder.glob("*.xml"):
        for suite in ElementTree.parse(report).iter("testsuite"):
            for name in total:
                total[name] += int(suite.get(name, 0))
    failed = total["failures"] + total["errors"]
    return {"passed": total["tests"] - failed - total["skipped"], "failed": failed, "skipped": total["skipped"]}


def table(rows: dict[str, Row]) -> Iterator[str]:
    """The lines of the table, newest version last."""
    yield "| PyTorch | Python | system | passed | failed | skipped | date |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for version, row in sorted(rows.items(), key=lambda item: [int(n) for n in re.findall(r"\d+", item[0])]):
        yield f"| {version} | " + " | ".join(str(row[name]) for name in _COLUMNS) + " |"


_COLUMNS = ("python", "system", "passed", "failed", "skipped", "date")


def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    import torch

    folder, results = Path(arguments[0]), root / RESULTS
    rows: dict[str, Row] = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    counted = count(folder)
    rows[torch.__version__.partition("+")[0]] = {
        "python": platform.python_version(),
        "system": platform.system(),
        **counted,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    if "--keep" in arguments:
        results.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print("\n".join(table(rows)))
    return 1 if counted["failed"] or not counted["passed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
