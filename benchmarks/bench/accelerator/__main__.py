"""Count what every loss costs on an accelerator beside those of other libraries, and write the page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from bench import metadata, pool
from bench.__main__ import PAGES, RESULTS, chosen, write_page
from bench.accelerator.table import CaseCount, Table
from bench.accelerator.worker import attempt
from bench.cases import COUNTED
from bench.results import Report
from bench.run import progress_bar

PROCESSES = 2


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.accelerator", description=__doc__)
    parser.add_argument("--cases", metavar="PATTERN", help="cases whose name contains this, or matches it with * and ?")
    parser.add_argument(
        "--ours", action="store_true", help="this library only: the stored figures of the other ones stay"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="instead of the table in the repository")
    parser.add_argument("--no-page", action="store_true", help="write the table, not the page")
    return parser.parse_args(given)


def main() -> int:
    options, console = arguments(), Console(stderr=True)
    path = options.output or RESULTS / "accelerator.json"
    names = chosen(options.cases, COUNTED)
    counted, failed = count_cases(names, others=not options.ours, console=console)
    table = Table.read(path) if path.exists() else Table({}, {})
    versions = metadata.collect()
    kept = ("date", "versions") if options.ours else ("date", "versions", "peers")
    table.updated({key: versions[key] for key in kept}, counted).write(path)
    console.print(str(path))
    if options.output is None and not options.no_page:
        write_page(Report.read(RESULTS / "benchmark.json"), PAGES)
    for name, error in failed.items():
        console.print(f"{name} failed:\n{error}", markup=False)
    return 1 if failed else 0


def count_cases(names: list[str], *, others: bool, console: Console) -> tuple[list[CaseCount], dict[str, str]]:
    """Count these cases, each in a process of its own; and what went wrong, by case."""
    counted: dict[str, CaseCount] = {}
    failed: dict[str, str] = {}
    with progress_bar(console) as progress:
        bar = progress.add_task("", total=len(names))
        jobs = {name: (name, others) for name in names}
        for message in pool.run(pool.context(), attempt, jobs, PROCESSES):
            if message.kind == "result":
                counted[message.job] = message.content
            else:
                failed[message.job] = message.content
            progress.update(bar, advance=1, description=message.job)
    return [counted[name] for name in names if name in counted], failed


if __name__ == "__main__":
    sys.exit(main())
