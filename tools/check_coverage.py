"""Combine the coverage data of the test sessions and hold every package to the floor, in lines and in branches.

python tools/check_coverage.py build/coverage packages/losses-core packages/losses-cls
"""

import json
import sys
from pathlib import Path

from coverage import Coverage

FLOOR = 95.0


def combine(data: Path, folders: list[Path]) -> Coverage:
    """One data set in which a package is one place, whichever environments its wheel was installed in."""
    combined = Coverage(data_file=str(data / "combined"))
    modules = {folder.name.replace("-", "_"): folder for folder in folders}
    paths = {name: [str(folder / "src" / name), f"*/site-packages/{name}"] for name, folder in modules.items()}
    combined.set_option("paths", paths)
    combined.combine([str(path) for path in data.glob("*/data.*")], strict=True, keep=True)
    combined.save()
    return combined


def main(data: Path, folders: list[Path]) -> int:
    combined = combine(data, folders)
    summary = []
    for folder in folders:
        include = [f"{folder}/src/*"]
        print(f"\n{folder.name}")
        combined.report(include=include, show_missing=True, skip_covered=True)
        report = data / f"{folder.name}.json"
        combined.json_report(outfile=str(report), include=include)
        totals = json.loads(report.read_text())["totals"]
        lines = 100 * totals["covered_lines"] / max(totals["num_statements"], 1)
        branches = 100 * totals["covered_branches"] / max(totals["num_branches"], 1)
        summary.append((folder.name, lines, branches))
    print(f"\n{'package':<16}{'lines':>8}{'branches':>10}   (at least {FLOOR:g} % each)")
    for name, lines, branches in summary:
        print(f"{name:<16}{lines:>6.1f} %{branches:>8.1f} %")
    return 1 if min(min(lines, branches) for _, lines, branches in summary) < FLOOR else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), [Path(folder) for folder in sys.argv[2:]]))
