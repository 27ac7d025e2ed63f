"""Try inputs at the edge on every loss of every library, and write the page of the documentation."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from bench.__main__ import PAGES, RESULTS
from bench.edges import page
from bench.edges.matrix import Matrix, matrix


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.edges", description=__doc__)
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder instead of the places in the repository")
    parser.add_argument("--render", action="store_true", help="try nothing, write the page from what is stored")
    return parser.parse_args(given)


def main() -> int:
    options, console = arguments(), Console(stderr=True)
    results, pages = (options.output,) * 2 if options.output else (RESULTS, PAGES)
    if not options.render:
        matrix(console).write(results / "edges.json")
    found = Matrix.read(results / "edges.json")
    pages.mkdir(parents=True, exist_ok=True)
    (pages / "edge-inputs.md").write_text(page.render(found), encoding="utf-8")
    console.print(f"{results / 'edges.json'}\n{pages / 'edge-inputs.md'}")
    for name, fault in found.metadata["failed"].items():
        console.print(f"{name}: an input without edges: {fault}", markup=False)
    return 1 if found.metadata["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
