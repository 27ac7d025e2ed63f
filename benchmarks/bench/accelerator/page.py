"""The section of the page about cost on an accelerator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from bench.accelerator.counting import Figures
from bench.accelerator.sizes import SETTINGS
from bench.accelerator.table import MEASURES, CaseCount, Table
from bench.cases import CASES, COUNTED
from bench.results import DEFINITION, OURS
from bench.stats import geometric_mean
from bench.tables import table

SMALL, LARGE = "float32", "bfloat16 large"
"""The settings of the tables by case."""

SLOW = 1.5
"""Ratio of estimated times from which a case is listed."""

TEXT = """The kernels that a forward and backward starts on an accelerator, the bytes that they move and the memory that
they need. This is a count, not a measurement on a device. Losses run on `meta` tensors, which have a shape and no
values, and a dispatch mode counts every operator.

- *Kernels*: operators that are not views. Each counts as one, also where a device runs several, as in a sort.
- *Traffic*: bytes that the kernels read and write, in units of pred's bytes. A kernel reads its operands in full, an
  expanded operand only as far as it is stored. An in-place operator reads and writes its operand, a fill only writes.
  No cache is assumed: a block that stays in the L2 cache counts like any other.
- *Time*: estimated as the sum over kernels of the larger of 5 µs and their bytes at 4 TB/s.
- *Peak*: the most bytes allocated at once, in units of pred's bytes, beyond pred and target. The gradient is included.
  Memory that an operator allocates and frees within itself is not.
- *Saved*: the bytes that are still allocated after the forward, in the same units.
- *Large*: inputs repeated until pred has 256 MiB.
- *bfloat16*: all floating inputs are bfloat16. This library computes in float32 block by block. For other libraries the
  inputs are cast to float32 before the call, and the cast counts: a result in bfloat16 is not within the tolerances.

A library that needs values does not run on `meta`. It runs on the CPU under the same count, at the large size only
where that fits into 4 GiB; otherwise the cell is empty. Other libraries are those whose value and gradient agree, and
the best one is chosen for each figure by itself. *Textbook* is included."""


def section(counted: Table, names: Iterable[str]) -> list[str]:
    """The section for these cases of the benchmark; two volumes that are not timed belong to all of them."""
    chosen = set(names)
    volumes = set(COUNTED) - set(CASES) if set(CASES) <= chosen else set()
    cases = [case for name, case in counted.cases.items() if name in chosen | volumes]
    if not cases:
        return []
    packages = dict.fromkeys(case.package for case in cases)
    parts = ["## Accelerator cost", TEXT, *means(cases), *slow(cases), *over_budget(cases)]
    parts.append(f"By case, this library / the best other one: {SMALL} at the size of the case, then {LARGE}.")
    for package in packages:
        rows = [_row(case) for case in cases if case.package == package]
        parts += [f"### Accelerator cost: {package}", table(HEADS, rows, left=1)]
    return parts + missing(cases)


def means(cases: Sequence[CaseCount]) -> list[str]:
    """Geometric means of the ratios in every setting."""
    rows = []
    for setting in SETTINGS:
        ratios = {m: [r for case in cases if (r := case.ratio(setting, m)) is not None] for m in MEASURES}
        if ratios["kernels"]:
            rows.append([setting, str(len(ratios["kernels"])), *(_ratio(geometric_mean(ratios[m])) for m in MEASURES)])
    if not rows:
        return []
    text = "Geometric means of this library's figures over the best ones of other libraries:"
    return [text, table(["setting", "cases", "kernels", "traffic", "time", "peak"], rows, left=1)]


def slow(cases: Sequence[CaseCount]) -> list[str]:
    """Cases whose estimated time is well above that of the best other library."""
    lines = []
    for setting in SETTINGS:
        found = [
            f"`{case.name}` {ratio:.2f} (peak {_ratio(case.ratio(setting, 'peak'))})"
            for case in cases
            if (ratio := case.ratio(setting, "seconds")) is not None and ratio > SLOW
        ]
        if found:
            lines.append(f"- {setting}: {', '.join(found)}")
    text = f"Cases with more than {SLOW} × the estimated time of the best other library, and the ratio of their peaks:"
    return [text, "\n".join(lines)] if lines else [f"No case has more than {SLOW} × the estimated time of another."]


def over_budget(cases: Sequence[CaseCount]) -> list[str]:
    """Cases whose peak is above what was set for them."""
    found = []
    for case in cases:
        figures, budget = case.ours(LARGE), COUNTED[case.name].budget
        if figures and budget is not None and figures.peak > budget * figures.pred:
            found.append(f"`{case.name}` {figures.peak / figures.pred:.2f} (budget {budget:g})")
    return [f"Peak above its budget, {LARGE}: {', '.join(found)}."] if found else []


Show = Callable[[Figures], float]
COLUMNS: list[tuple[str, str, str, Show]] = [
    ("kernels", SMALL, "kernels", lambda f: f.kernels),
    ("traffic", SMALL, "bytes", lambda f: f.bytes / f.pred),
    ("time, µs", SMALL, "seconds", lambda f: 1e6 * f.seconds),
    ("kernels, large", LARGE, "kernels", lambda f: f.kernels),
    ("traffic, large", LARGE, "bytes", lambda f: f.bytes / f.pred),
    ("time, large, µs", LARGE, "seconds", lambda f: 1e6 * f.seconds),
    ("peak, large", LARGE, "peak", lambda f: f.peak / f.pred),
    ("saved, large", LARGE, "saved", lambda f: f.saved / f.pred),
]
HEADS = ["case", *(head for head, *_ in COLUMNS)]


def _row(case: CaseCount) -> list[str]:
    cells = []
    for _, setting, measure, show in COLUMNS:
        ours, best = case.ours(setting), case.best(setting, measure)
        other = None if best is None else case.implementations[best[0]].figures[setting]
        both = (digits(None if figures is None else show(figures)) for figures in (ours, other))
        cells.append(" / ".join(both))
    return [f"`{case.name}`", *cells]


def digits(value: float | None) -> str:
    """Three digits, all of those before the point; a dash for None."""
    return "–" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def missing(cases: Sequence[CaseCount]) -> list[str]:
    """What ran on the CPU or could not be counted."""
    on_cpu, lines = [], []
    for case in cases:
        for name, one in case.implementations.items():
            fails = one.state == "fails"
            if fails if name in (OURS, DEFINITION) else not (fails or one.state == "missing" or one.figures):
                lines.append(f"- `{case.name}`, {name}: {one.note}")
            elif one.device == "cpu" and one.figures:
                empty = "" if LARGE in one.figures or not case.ours(LARGE) else f", not {LARGE}"
                on_cpu.append(f"`{case.name}` {name}{empty}")
    parts = [f"Counted on the CPU: {', '.join(on_cpu)}."] if on_cpu else []
    return [*parts, "Not counted:\n\n" + "\n".join(lines)] if lines else parts
