"""The page of the documentation, from what a run has stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from bench.edges.judge import Cell
from bench.edges.matrix import SUBJECTS, Matrix
from bench.edges.subject import COLUMNS
from bench.metadata import of_versions
from bench.tables import table

OURS = "losses"
REASONS = {
    ("OHEM cross-entropy", "one class"): "one channel goes to `OHEMBinaryLoss`, as the error says",
    ("DIST", "uniform logits"): "a constant row has no correlation, and by definition no part in the loss",
}
"""Why an input is answered as it is, where that is no defect."""

INTRODUCTION = """# Edge inputs

How each library handles extreme and unusual inputs. `nox -s bench` writes this page; see also the
[benchmark](benchmark.md). Date: {date}.

Each cell is one loss of one library, run in a process of its own. *ok*: value and gradient are finite, the value is
correct, and the gradient is not zero where it should not be. The expected value is computed with NumPy in float64, by
the definition of that library where definitions differ (whether the mean counts ignored pixels, whether a Dice loss
sums over the batch). The tolerance is 2 % in half precision, else 0.01 %. Everything runs on the CPU; a GPU
accumulates some sums in float32, so float16 can do better there. Other cells:

- *NaN*, *inf*: the value. *NaN gradient*, *inf gradient*, *zero gradient*: the gradient; the value may be correct.
- *a for b*: the value is a, and b is correct; *a for b to c*: anything in between is correct.
- *raises …*: the error. *without a graph*: `backward()` cannot be called. *gives the number*: not a tensor.
- *no option*: the loss has no option to ignore an element, to weight a pair, or not to reduce; not counted.
- *–*: the library has no such loss.

The loss of an empty or fully ignored batch should be 0. Logits of ±6e4 are near the largest float16,
and the loss of a wrong prediction exceeds it. *torch.compile*: `fullgraph=True`, traced but not translated to machine
code. *mm\\** is whichever of mmdet, mmseg, mmpretrain and mmrazor has the loss; *PML* is pytorch-metric-learning. The
value of the Hausdorff distances is not checked, as every library defines it differently. The numbers are in
`benchmarks/results/edges.json`.

Python {python}, {versions}. Peers: {peers}."""


def render(matrix: Matrix) -> str:
    """The page in Markdown."""
    given = matrix.metadata
    introduction = INTRODUCTION.format(
        date=given["date"],
        python=given["python"],
        versions=of_versions(given["versions"]),
        peers=of_versions(given["peers"]),
    )
    groups = dict.fromkeys(subject.group for subject in SUBJECTS.values())
    parts = [
        introduction,
        "## Summary",
        "How many are ok of those tried, by input and by library:",
        summary(matrix),
        *shortcomings(matrix),
    ]
    for group in groups:
        parts += [f"## {group}", of_group(matrix, group)]
    return "\n\n".join(parts) + "\n"


def cells(matrix: Matrix) -> Iterator[tuple[str, str, str, Cell]]:
    """Subject, input, library and cell of all that was tried."""
    for subject, rows in matrix.cells.items():
        for edge, row in rows.items():
            for library, cell in row.items():
                yield subject, edge, library, cell


def summary(matrix: Matrix) -> str:
    """A row for each kind of input, a column for each library."""
    columns = list(dict.fromkeys(COLUMNS.values()))
    tried: Counter[tuple[str, str]] = Counter()
    fine: Counter[tuple[str, str]] = Counter()
    for _, edge, library, cell in cells(matrix):
        if cell.ok is not None:
            for kind in (edge.partition(", ")[0], "all"):
                tried[kind, COLUMNS[library]] += 1
                fine[kind, COLUMNS[library]] += cell.ok
    kinds = [kind for kind in dict.fromkeys(kind for kind, _ in tried) if kind != "all"]
    rows = [
        [kind, *(f"{fine[kind, c]}/{tried[kind, c]}" if tried[kind, c] else "–" for c in columns)]
        for kind in (*kinds, "all")
    ]
    return table(["input", *columns], rows, left=1)


def shortcomings(matrix: Matrix) -> list[str]:
    """Where this library is not ok, in words."""
    lines = [
        f"- {subject}, {edge}: {cell.text}" + (f" ({reason})" if (reason := REASONS.get((subject, edge))) else "")
        for subject, edge, library, cell in cells(matrix)
        if library == OURS and cell.ok is False
    ]
    missing = sorted({library for _, _, library, cell in cells(matrix) if cell.text == "not installed"})
    skipped = sum(cell.text == "not installed" for *_, cell in cells(matrix))
    text = [
        "## Where this library is not ok",
        "\n".join(lines) or "Nowhere in this run.",
    ]
    if missing:
        text.append(f"Not installed, {skipped} cells skipped: {', '.join(missing)}.")
    return text


def of_group(matrix: Matrix, group: str) -> str:
    """The table of a group: a row for each loss and input."""
    subjects = [subject for subject in SUBJECTS.values() if subject.group == group]
    columns = [
        column
        for column in dict.fromkeys(COLUMNS.values())
        if any(COLUMNS[library] == column for subject in subjects for library in subject.libraries)
    ]
    rows = []
    for subject in subjects:
        for number, (edge, row) in enumerate(matrix.cells[subject.name].items()):
            shown = {COLUMNS[library]: cell.text for library, cell in row.items()}
            rows.append(["" if number else f"**{subject.name}**", edge, *(shown.get(c, "–") for c in columns)])
    return table(["loss", "input", *columns], rows, left=len(columns) + 2)
