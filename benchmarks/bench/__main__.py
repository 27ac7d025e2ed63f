"""Time every loss beside those of other libraries, and write the page of the documentation."""

from __future__ import annotations

import argparse
import fnmatch
import sys
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from bench import page, plot, pool
from bench.accelerator.table import Table
from bench.case import Case
from bench.cases import CASES
from bench.results import Report
from bench.run import benchmark
from bench.worker import Options

RESULTS = pool.BENCHMARKS / "results"
PAGES = pool.ROOT / "docs" / "comparison"
PARTIAL = pool.ROOT / "build" / "bench"
QUICK = 0.2


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--cases", metavar="PATTERN", help="cases whose name contains this, or matches it with * and ?")
    parser.add_argument("--eager-only", action="store_true", help="nothing under torch.compile")
    parser.add_argument("--quick", action="store_true", help="few rounds: to see that it works, not for its numbers")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder for the numbers, the page and the picture; by default the places in the repository, and "
        "build/bench for a run that one of the options above makes a part of the whole",
    )
    parser.add_argument("--render", action="store_true", help="measure nothing, write the page from the stored numbers")
    return parser.parse_args(given)


def chosen(pattern: str | None, cases: Mapping[str, Case] = CASES) -> list[str]:
    """The cases that a pattern means."""
    return [name for name in cases if pattern is None or pattern in name or fnmatch.fnmatch(name, pattern)]


def write(report: Report, results: Path, pages: Path) -> None:
    """The numbers, the page and the picture."""
    report.write(results / "benchmark.json")
    # read again, so that the page is the same whether it is written after a run or from the stored numbers
    write_page(Report.read(results / "benchmark.json"), pages)


def write_page(report: Report, folder: Path) -> None:
    """The page and the picture; the counts of the accelerator are the stored ones of the same cases."""
    folder.mkdir(parents=True, exist_ok=True)
    table = Table.read(RESULTS / "accelerator.json")
    (folder / "benchmark.md").write_text(page.render(report, table), encoding="utf-8")
    plot.draw(report.cases, folder)


def main() -> int:
    options, console = arguments(), Console(stderr=True)
    whole = not (options.cases or options.eager_only or options.quick or options.device != "cpu")
    results, pages = (RESULTS, PAGES) if whole and options.output is None else (options.output or PARTIAL,) * 2
    if options.render:
        report = Report.read(results / "benchmark.json")
    else:
        names = chosen(options.cases)
        if not names:
            console.print(f"no case matches {options.cases!r}; the cases are: {', '.join(CASES)}")
            return 2
        seconds = QUICK if options.quick else Options.seconds
        report = benchmark(names, Options(options.device, not options.eager_only, seconds), console)
    if report.cases:
        write(report, results, pages)
        console.print(f"{results / 'benchmark.json'}\n{pages / 'benchmark.md'}")
    for name, error in report.metadata["failed"].items():
        console.print(f"{name} failed:\n{error}", markup=False)
    return 1 if report.metadata["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
