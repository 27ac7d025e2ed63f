"""The tables that show what each kernel is worth: its cost beside that of the definition."""

from __future__ import annotations

from collections.abc import Iterable

from bench.accelerator.page import LARGE, SMALL
from bench.accelerator.table import CaseCount, Table
from bench.results import CaseResult
from bench.stats import Spread
from bench.tables import table, three_digits, with_quartiles

HEADS = [
    "case",
    "kernel",
    "ms",
    "definition, ms",
    "ratio",
    "compiled, ms",
    "definition, ms",
    "ratio",
    "traffic",
    "peak",
]


def eager(case: CaseResult) -> Spread | None:
    """The kernel's time over that of the definition."""
    return case.definition.eager_ratio if case.definition else None


def compiled(case: CaseResult) -> Spread | None:
    """The same, both compiled."""
    return case.definition.compiled_ratio if case.definition else None


def section(cases: Iterable[CaseResult], counted: Table) -> list[str]:
    """The table of some cases; nothing where none of them has a kernel."""
    rows = [_row(case, counted.cases.get(case.name)) for case in cases if case.definition]
    text = "Kernels, and the same loss by its definition; traffic and peak are ratios, large inputs in bfloat16:"
    return [text, table(HEADS, rows, left=2)] if rows else []


def _row(case: CaseResult, count: CaseCount | None) -> list[str]:
    definition = case.definition
    assert definition is not None
    return [
        f"`{case.name}`",
        ", ".join(f"`{name}`" if "." in name else name for name in case.kernels),
        three_digits(case.ours.eager_ms),
        three_digits(definition.eager_ms),
        with_quartiles(definition.eager_ratio),
        three_digits(case.ours.compiled_ms),
        three_digits(definition.compiled_ms),
        with_quartiles(definition.compiled_ratio),
        _counted(count, "bytes"),
        _counted(count, "peak"),
    ]


def _counted(case: CaseCount | None, measure: str) -> str:
    """This library's figure over that of the definition."""
    if case is None:
        return "–"
    setting = LARGE if case.ours(LARGE) else SMALL
    ours, definition = case.ours(setting), case.definition(setting)
    return f"{getattr(ours, measure) / getattr(definition, measure):.2f}" if ours and definition else "–"
