"""The matrix: every loss, input and library."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from bench import metadata, pool
from bench.edges import classification, detection, distillation, segmentation
from bench.edges.judge import Cell, check_ordinary, judge
from bench.edges.subject import COLUMNS, Subject
from bench.peers import Missing
from bench.run import progress_bar
from bench.worker import Tell, quiet

SUBJECTS: dict[str, Subject] = {
    subject.name: subject
    for module in (classification, detection, segmentation, distillation)
    for subject in module.SUBJECTS
}
MISSING = Cell(None, "not installed")
PROCESSES = 2


@dataclass
class Matrix:
    """What was found: subject → input → library → cell."""

    metadata: dict[str, Any]
    cells: dict[str, dict[str, dict[str, Cell]]]

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Matrix:
        stored = json.loads(path.read_text(encoding="utf-8"))
        cells = {
            subject: {edge: {lib: Cell(**cell) for lib, cell in row.items()} for edge, row in rows.items()}
            for subject, rows in stored["cells"].items()
        }
        return cls(stored["metadata"], cells)


Place = tuple[str, int]
"""A subject, and the number of one of its rows."""


def places(library: str) -> list[Place]:
    """What is to be tried in a library."""
    return [
        (name, row)
        for name, subject in SUBJECTS.items()
        if library in subject.libraries
        for row in range(len(subject.edges))
    ]


def matrix(console: Console) -> Matrix:
    """Try everything, each library in a process of its own."""
    server = pool.context()
    cells: dict[str, dict[str, dict[str, Cell]]] = {
        name: {edge.name: {} for edge in subject.edges} for name, subject in SUBJECTS.items()
    }
    waiting = {library: places(library) for library in COLUMNS}
    failed: dict[str, str] = {}
    with progress_bar(console) as progress:
        bar = progress.add_task("", total=sum(map(len, waiting.values())))
        while any(waiting.values()):
            jobs = {library: (library, todo) for library, todo in waiting.items() if todo}
            for message in pool.run(server, attempt, jobs, PROCESSES):
                todo = waiting[message.job]
                if message.kind == "ordinary":
                    failed[f"{message.content[0]}, {message.job}"] = message.content[1]
                elif message.kind == "error":
                    raise RuntimeError(message.content)
                elif message.kind == "item" or (message.kind == "end" and todo):
                    # a process that ends on its own has not come to its next place: the loss has ended it
                    name, row = todo.pop(0)
                    cell = message.content if message.kind == "item" else Cell(False, "ends the process")
                    cells[name][SUBJECTS[name].edges[row].name][message.job] = cell
                    progress.update(bar, advance=1, description=f"{message.job} {name}")
    return Matrix(metadata.collect(failed=failed), cells)


def attempt(tell: Tell, library: str, todo: list[Place]) -> None:
    """Try these places, and tell what becomes of each."""
    torch.set_num_threads(1)
    quiet()
    for message in _attempts(library, todo):
        tell(*message)


def _attempts(library: str, todo: list[Place]) -> Iterator[tuple[str, Any]]:
    known: set[str] = set()
    for name, row in todo:
        subject = SUBJECTS[name]
        implementation = subject.libraries[library]
        try:
            if name not in known:
                known.add(name)
                if fault := check_ordinary(subject.ordinary, implementation):
                    yield "ordinary", (name, fault)
            yield "item", judge(subject.edges[row], implementation)
        except Missing:
            yield "item", MISSING
