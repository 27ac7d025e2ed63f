"""The page of the documentation, from what a run has stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from bench import worth
from bench.accelerator import page as accelerator_page
from bench.accelerator.table import Table
from bench.case import Case
from bench.cases import CASES
from bench.metadata import of_versions
from bench.results import DEFINITION, OURS, CaseResult, Contender, Report
from bench.stats import Spread, geometric_mean, standing
from bench.tables import table, three_digits, with_quartiles

PICTURE = "benchmark"
Ratio = Callable[[CaseResult], Spread | None]


def render(report: Report, counted: Table) -> str:
    """The page in Markdown, with the counts of an accelerator of the same cases."""
    packages = dict.fromkeys(case.package for case in report.cases)
    parts = [
        INTRODUCTION.format(**_given(report)),
        "## Summary",
        summary(report.cases),
        *pictures(),
        *standings(report.cases),
        *accelerator_page.section(counted, (case.name for case in report.cases)),
        *(part for package in packages for part in tables(report, counted, package)),
        *variants(report.cases),
        *left_out(report.cases),
    ]
    return "\n\n".join(parts) + "\n"


INTRODUCTION = """# Benchmark

Time of the forward and backward of every loss, beside every other library that has it, and its cost on an accelerator.
`nox -s bench` writes this page; [edge inputs](edge-inputs.md) compares results on extreme inputs. Machine: {machine}.
Date: {date}.

A ratio is the time of this library divided by that of another: below 1, this library is faster. It is the median over
rounds, with the quartiles in parentheses. Each round runs every implementation once, in random order, and a ratio
compares times of one round. All implementations get the same float32 inputs, at sizes of real training.

- *Fastest other library*: among those whose value and gradient agree with this library's in float64, checked in the
  same run. *Textbook* is the formula operation by operation, for losses that no library has.
- *× floor*: the time divided by that of one copy that moves the bytes that every implementation must move: it reads
  pred and target and writes one gradient.
- *Compiled*: `torch.compile(fullgraph=True)`. The fastest other library is compiled, and the second fastest if it is
  within 1.5 ×. Losses with graph breaks are not timed.
- *Kernel*, *definition*: the definition of a loss is its formula in plain torch operations; a kernel computes the same
  value and gradient faster or in less memory. Both are timed in the same rounds.
- *Saved*: bytes that the forward leaves allocated for the backward; *peak*: the most bytes allocated at once. Both on
  the CPU, beyond pred and target, in units of pred's bytes.
- *Breaks*, *recompilations*, *syncs*: graph breaks; compilations after the first when the batch size changes, with
  `dynamic=True`; operations that wait for the device. A step that runs on `meta` tensors has none.

The allocator keeps its pages ({allocator}) for all implementations. With
the system's default, large tensors cost all of them more. `benchmarks/README.md` has the whole method,
`benchmarks/results` the numbers.

Python {python}, {versions}. Other libraries: {peers}."""


def _given(report: Report) -> dict[str, str]:
    given = report.metadata
    kind = "one GPU" if given["device"] == "cuda" else f"{given['machine']} server CPU, {given['cores']} cores"
    return {
        "machine": kind if given["device"] == "cuda" else f"{kind}, one thread used",
        "date": given["date"],
        "allocator": ", ".join(f"`{name}={value}`" for name, value in given["allocator"].items()),
        "python": given["python"],
        "versions": of_versions(given["versions"]),
        "peers": of_versions(given["peers"]),
    }


# ------------------------------------------------------------------------------------------------------------ summary


def eager(case: CaseResult) -> Spread | None:
    """Ours over the fastest other library."""
    name = case.fastest()
    return case.contenders[name].eager_ratio if name else None


def compiled(case: CaseResult) -> Spread | None:
    """Ours over the fastest other library, both compiled."""
    name = case.fastest(compiled=True)
    return case.contenders[name].compiled_ratio if name else None


def compiled_gain(case: CaseResult) -> Spread | None:
    """Ours compiled over ours eager."""
    return case.ours.compiled_over_eager


def compiled_elementwise(case: CaseResult) -> Spread | None:
    """Ours compiled over the fastest other library eager, for losses of single elements."""
    return case.compiled_over_eager_peer if case.elementwise else None


ROWS: dict[str, Ratio] = {
    "eager: this library / fastest other library": eager,
    "compiled: this library / fastest other library, compiled": compiled,
    "this library: compiled / eager": compiled_gain,
    "element-wise losses: this library compiled / fastest other library eager": compiled_elementwise,
    "this library, eager: kernel / definition": worth.eager,
    "this library, compiled: kernel / definition": worth.compiled,
}
COUNTS = """Geometric means of the ratios, over all cases and by package, and numbers of cases. *Equal*: the median is
within 5 % of 1, or the quartiles lie on both sides of it."""


def summary(cases: Iterable[CaseResult]) -> str:
    """Geometric means and counts."""
    cases, rows = list(cases), []
    packages = list(dict.fromkeys(case.package for case in cases))
    for title, ratio in ROWS.items():
        found = {case.name: value for case in cases if (value := ratio(case))}
        if not found:
            continue
        means = [
            geometric_mean(value.median for case in cases if case.package == p and (value := found.get(case.name)))
            for p in packages
        ]
        counts = [sum(standing(value) == kind for value in found.values()) for kind in ("faster", "equal", "slower")]
        mean = geometric_mean(value.median for value in found.values())
        rows.append([title, _number(mean), *map(_number, means), *map(str, counts)])
    heads = ["ratio", "all", *(p.removeprefix("losses-") for p in packages), "faster", "equal", "slower"]
    return f"{COUNTS}\n\n{table(heads, rows, left=1)}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def pictures() -> list[str]:
    """The plot, for both themes."""
    alternative = "Ratio of the time of this library to that of the fastest other library, for every case"
    return [f"![{alternative}]({PICTURE}-{theme}.svg){{.only-{theme}}}" for theme in ("light", "dark")]


def standings(cases: Iterable[CaseResult]) -> list[str]:
    """Where another library, or a definition, is as fast or faster."""
    cases = list(cases)
    lines = []
    for title, ratio in ROWS.items():
        for kind in ("slower", "equal"):
            names = [f"`{c.name}` {value.median:.2f}" for c in cases if (value := ratio(c)) and standing(value) == kind]
            if names:
                lines.append(f"- {title}, **{kind}**: {', '.join(names)}")
    reasons = [REASONS] if lines else []
    return ["## Where this library is not faster", "\n".join(lines) or "Nowhere in this run.", *reasons]


REASONS = """Reasons:

- *A few hundred elements* (`32x10`, `300`): a call checks shapes, dtypes and values, which takes 10 to 30 µs more than
  torch's call of one or two kernels. Compiled, the guards on that code take about 10 µs more than those on a plain
  function, and any compiled call takes about 0.1 ms.
- *Losses that torch has as one kernel* (smooth L1; compiled, the cross-entropies too): these kernels are memory-bound;
  there is no redundant work to remove.
- *MGD*: nine tenths of the time are convolutions, which are torch's in every library.
- *Balanced L1, compiled*: two thirds of the difference are `log1p`. Others use `log`, which rounds away the gradient of
  small differences.
- *Compiled slower than eager*: in eager mode on the CPU, kernels work in cache-sized blocks, use torch's vectorized
  exponentials, and compute the gradient during the forward. A compiled loss works on the whole tensor, and its
  exponentials and matrix products are no faster than torch's."""


# ------------------------------------------------------------------------------------------------------------- tables


def tables(report: Report, counted: Table, package: str) -> list[str]:
    """The tables of a package."""
    cases = [case for case in report.cases if case.package == package]
    times = [_times(case) for case in cases]
    heads = ["case", "ms", "fastest other", "ms", "ratio", "× floor"]
    if report.metadata["compiled"]:
        heads += ["compiled ms", "fastest other", "ms", "ratio"]
    kept = [_kept(case) for case in cases]
    return [
        f"## {package}",
        "Time:",
        table(heads, [row[: len(heads)] for row in times], left=1),
        *worth.section(cases, counted),
        "Memory and graphs, this library / the fastest other library:",
        table(["case", "saved", "peak", "breaks", "recompilations", "syncs"], kept, left=1),
    ]


def _times(case: CaseResult) -> list[str]:
    name, other = case.fastest(), case.fastest(compiled=True)
    peer, compiled_peer = case.contenders.get(name or ""), case.contenders.get(other or "")
    return [
        f"`{case.name}`",
        three_digits(case.ours.eager_ms),
        name or "–",
        three_digits(peer.eager_ms if peer else None),
        with_quartiles(eager(case)),
        "–" if case.over_floor is None else f"{case.over_floor.median:.3g}",
        three_digits(case.ours.compiled_ms),
        other or "–",
        three_digits(compiled_peer.compiled_ms if compiled_peer else None),
        with_quartiles(compiled(case)),
    ]


def _kept(case: CaseResult) -> list[str]:
    peer = case.contenders.get(case.fastest() or "")

    def both(show: Callable[[Contender], str]) -> str:
        return f"{show(case.ours)} / {show(peer) if peer else '–'}"

    return [
        f"`{case.name}`",
        both(lambda c: accelerator_page.digits(c.saved)),
        both(lambda c: accelerator_page.digits(c.peak)),
        both(lambda c: _whole(c.breaks)),
        both(lambda c: _whole(c.recompilations)),
        both(lambda c: _whole(c.syncs)),
    ]


def _whole(value: int | None) -> str:
    return "–" if value is None else str(value)


def variants(cases: Iterable[CaseResult]) -> list[str]:
    """What is timed and not ranked."""
    rows = [
        [f"`{case.name}`", name, peer.note, three_digits(peer.eager_ms), with_quartiles(peer.eager_ratio)]
        for case in cases
        for name, peer in case.contenders.items()
        if peer.state == "variant"
    ]
    if not rows:
        return []
    text = "Losses of the same kind that compute something else, and so are not ranked:"
    return ["## Other definitions", text, table(["case", "library", "differs", "ms", "ratio"], rows, left=3)]


def left_out(cases: Sequence[CaseResult]) -> list[str]:
    """What could not be compared, and why."""
    lines = []
    for case in cases:
        for name, peer in case.contenders.items():
            if peer.state == "fails":
                lines.append(f"- `{case.name}`, {name}: {peer.note}")
            elif peer.state == "disagrees":
                errors = f"value {peer.value_error:.0e}, gradient {peer.gradient_error:.0e}"
                lines.append(f"- `{case.name}`, {name}: does not agree ({errors})")
            elif peer.breaks and name == case.fastest():
                lines.append(f"- `{case.name}`, {name}, compiled: {peer.breaks} graph breaks")
            elif peer.compiled_note and (peer.breaks == 0 or name in (OURS, DEFINITION)):
                lines.append(f"- `{case.name}`, {name}, compiled: {peer.compiled_note}")
    missing = sorted({name for case in cases for name, peer in case.contenders.items() if peer.state == "missing"})
    if missing:
        skipped = sum(peer.state == "missing" for case in cases for peer in case.contenders.values())
        lines.append(f"- Not installed, {skipped} comparisons skipped: {', '.join(missing)}")
    return ["## What could not be compared", "\n".join(lines)] if lines else []


def uncovered(registered: Iterable[str], cases: Iterable[Case] = tuple(CASES.values())) -> list[str]:
    """Registered losses without a case."""
    covered = {case.config["type"] for case in cases}
    return sorted(set(registered) - covered)
