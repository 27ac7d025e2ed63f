"""The page of the documentation, from what a run has stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from bench.case import Case
from bench.cases import CASES
from bench.metadata import of_versions
from bench.results import OURS, CaseResult, Contender, Report
from bench.stats import Spread, geometric_mean, standing
from bench.tables import table

PICTURE = "benchmark"
Ratio = Callable[[CaseResult], Spread | None]


def render(report: Report) -> str:
    """The page in Markdown."""
    parts = [
        INTRODUCTION.format(**_given(report)),
        "## Summary",
        summary(report.cases),
        *pictures(),
        *standings(report.cases),
        *(part for package in dict.fromkeys(case.package for case in report.cases) for part in tables(report, package)),
        *variants(report.cases),
        *left_out(report.cases),
    ]
    return "\n\n".join(parts) + "\n"


INTRODUCTION = """# Benchmark

Forward and backward of every loss, timed beside every other library that has it. This page is written by
`nox -s bench`; [edge inputs](edge-inputs.md) is its other half. Machine: {machine}. Date: {date}.

A ratio is the time of this library over that of the other, so below 1 is faster here. It is the median over rounds,
and behind it stand the quartiles. In each round every implementation runs, one after the other in an
order drawn anew; a ratio is taken within a round. Inputs are float32 and the same for all, the sizes those of
real training.

- *Fastest peer*: of the libraries whose value and gradient agree with this library's in float64, checked in the same
  run. *Textbook* is the formula written down operation by operation, where no library has the loss.
- *× floor*: the time here over that of one copy that moves as many bytes as any implementation must: pred and target
  read, one gradient written.
- *Compiled*: `torch.compile(fullgraph=True)`. The fastest peer is compiled, and the next one where that takes less
  than half as long again; one that is not one graph has no time.
- *Saved*: bytes kept for the backward, in units of the bytes of pred.
- *Breaks*, *recompilations*, *syncs*: graph breaks; compilations after the first when the batch size changes, with
  `dynamic=True`; operations that would make the host wait for a device.

The allocator is set to keep its pages ({allocator}), for all alike. With
the system's default, large tensors cost everyone more. The whole method is in `benchmarks/README.md`, the numbers are
in `benchmarks/results/benchmark.json`.

Python {python}, {versions}. Peers: {peers}."""


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
    """Ours over the fastest peer."""
    name = case.fastest()
    return case.contenders[name].eager_ratio if name else None


def compiled(case: CaseResult) -> Spread | None:
    """Ours over the fastest compiled peer, both compiled."""
    name = case.fastest(compiled=True)
    return case.contenders[name].compiled_ratio if name else None


def compiled_gain(case: CaseResult) -> Spread | None:
    """Ours compiled over ours eager."""
    return case.ours.compiled_over_eager


def compiled_elementwise(case: CaseResult) -> Spread | None:
    """Ours compiled over the fastest eager peer, for losses of single elements."""
    return case.compiled_over_eager_peer if case.elementwise else None


ROWS: dict[str, Ratio] = {
    "eager: this library / fastest peer": eager,
    "compiled: this library / fastest compiled peer": compiled,
    "this library: compiled / eager": compiled_gain,
    "element-wise losses: this library compiled / fastest eager peer": compiled_elementwise,
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
    alternative = "Ratio of the time of this library to that of the fastest peer, for every case"
    return [f"![{alternative}]({PICTURE}-{theme}.svg){{.only-{theme}}}" for theme in ("light", "dark")]


def standings(cases: Iterable[CaseResult]) -> list[str]:
    """Where another library is as fast or faster, in words."""
    cases = list(cases)
    lines = []
    for title, ratio in ROWS.items():
        for kind in ("slower", "equal"):
            names = [f"`{c.name}` {value.median:.2f}" for c in cases if (value := ratio(c)) and standing(value) == kind]
            if names:
                lines.append(f"- {title}, **{kind}**: {', '.join(names)}")
    reasons = [REASONS] if lines else []
    return ["## Where this library is not faster", "\n".join(lines) or "Nowhere in this run.", *reasons]


REASONS = """Where that comes from:

- *A few hundred elements* (`32x10`, `300`): a call here checks shapes, dtypes and what is to be hidden, weighted and
  reduced, which takes 10 to 30 µs more than torch's call of one or two kernels. Compiled, the guards on that code take
  about 10 µs more than those on a plain function, and any compiled call about 0.1 ms before arithmetic.
- *Losses that torch has as one kernel* (smooth L1; compiled, the cross-entropies too): the kernels do little but read
  and write, so there is nothing to leave out.
- *MGD*: nine tenths of it are convolutions, which are torch's for everyone.
- *Balanced L1, compiled*: two thirds of the difference are `log1p` where others take `log`, which loses the digits of
  the gradient of small differences.
- *Compiled slower than eager*: eager losses on a CPU work through parts that a cache holds, take exponentials from
  torch's vector library, and often find the gradient with the value, so that the backward is no pass at all. A compiler
  reads the inputs again in the backward, and its exponentials and matrix products are no faster than torch's.

*Saved* is 3 for losses of single elements and of boxes that are small, up to 131,072 elements or 65,536 coordinates:
there the derivative is kept beside pred and target, which spares computing it twice. `asl_plain` records each
operation; `AsymmetricLossOptimized` is the same loss in one."""


# ------------------------------------------------------------------------------------------------------------- tables


def tables(report: Report, package: str) -> list[str]:
    """The two tables of a package."""
    cases = [case for case in report.cases if case.package == package]
    times = [_times(case) for case in cases]
    heads = ["case", "ms", "fastest peer", "ms", "ratio", "× floor"]
    if report.metadata["compiled"]:
        heads += ["compiled ms", "fastest peer", "ms", "ratio"]
    kept = [_kept(case) for case in cases]
    return [
        f"## {package}",
        "Time:",
        table(heads, [row[: len(heads)] for row in times], left=1),
        "Memory and graphs, this library / the fastest peer:",
        table(["case", "saved", "breaks", "recompilations", "syncs"], kept, left=1),
    ]


def _times(case: CaseResult) -> list[str]:
    name, other = case.fastest(), case.fastest(compiled=True)
    peer, compiled_peer = case.contenders.get(name or ""), case.contenders.get(other or "")
    return [
        f"`{case.name}`",
        milliseconds(case.ours.eager_ms),
        name or "–",
        milliseconds(peer.eager_ms if peer else None),
        ratio_of(eager(case)),
        "–" if case.over_floor is None else f"{case.over_floor.median:.3g}",
        milliseconds(case.ours.compiled_ms),
        other or "–",
        milliseconds(compiled_peer.compiled_ms if compiled_peer else None),
        ratio_of(compiled(case)),
    ]


def _kept(case: CaseResult) -> list[str]:
    peer = case.contenders.get(case.fastest() or "")

    def both(show: Callable[[Contender], str]) -> str:
        return f"{show(case.ours)} / {show(peer) if peer else '–'}"

    return [
        f"`{case.name}`",
        both(lambda c: "–" if c.saved is None else f"{c.saved:.4g}" if c.saved < 1000 else f"{c.saved:.0f}"),
        both(lambda c: _whole(c.breaks)),
        both(lambda c: _whole(c.recompilations)),
        both(lambda c: _whole(c.syncs)),
    ]


def _whole(value: int | None) -> str:
    return "–" if value is None else str(value)


def milliseconds(time: Spread | None) -> str:
    """Three digits."""
    return "–" if time is None else f"{time.median:.3g}" if time.median < 100 else f"{time.median:.0f}"


def ratio_of(value: Spread | None) -> str:
    """``0.51 (0.49–0.53)``."""
    return "–" if value is None else f"{value.median:.2f} ({value.low:.2f}–{value.high:.2f})"


def variants(cases: Iterable[CaseResult]) -> list[str]:
    """What is timed but not ranked."""
    rows = [
        [f"`{case.name}`", name, peer.note, milliseconds(peer.eager_ms), ratio_of(peer.eager_ratio)]
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
            elif peer.compiled_note and (peer.breaks == 0 or name == OURS):
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
