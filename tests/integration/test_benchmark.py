"""The benchmark's own logic: what is made of samples, what is counted, and that nothing is left out."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bench import checks, page, timing
from bench.__main__ import PAGES, RESULTS, arguments, chosen
from bench.accelerator.counting import Figures
from bench.accelerator.table import CaseCount, Implementation, Table
from bench.case import Inputs
from bench.cases import CASES
from bench.peers import ALSO_NEEDED, WITH_DEPENDENCIES, WITHOUT_DEPENDENCIES, Missing, load
from bench.results import DEFINITION, OURS, CaseResult, Contender, Report
from bench.run import facts_needed, share_facts
from bench.stats import Spread, geometric_mean, paired, spread, standing
from bench.tables import table
from bench.worker import floor
from losses_core import LOSSES, build_loss


def test_every_registered_loss_has_a_case() -> None:
    names = {LOSSES.name_of(LOSSES.get(name)) for name in LOSSES}
    assert page.uncovered(names) == []
    for case in CASES.values():
        build_loss(dict(case.config))


def test_every_peer_is_pinned(root: Path) -> None:
    pinned = re.findall(r"^([\w-]+)==", (root / "constraints.txt").read_text(), re.MULTILINE)
    assert {*WITH_DEPENDENCIES, *WITHOUT_DEPENDENCIES, *ALSO_NEEDED} <= set(pinned)


def test_a_library_that_is_not_there_is_missing() -> None:
    with pytest.raises(Missing):
        load("no_such_library.losses:Loss")


def test_a_library_that_needs_what_is_not_there_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_installed.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Missing, match="half_installed, which needs no_such_library"):
        load("half_installed:Loss")


# ------------------------------------------------------------------------------------------------------------- samples


def test_ratios_are_of_one_round() -> None:
    """A machine that is twice as slow for half of the rounds changes no ratio."""
    ours, theirs = [1.0, 1.0, 2.0, 2.0], [2.0, 2.0, 4.0, 4.0]
    assert paired(ours, theirs) == Spread(0.5, 0.5, 0.5)
    assert spread([3.0]) == Spread(3, 3, 3)
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == Spread(3, 2, 4)
    assert geometric_mean([0.5, 2.0, 8.0]) == pytest.approx(2)
    assert geometric_mean([]) is None


@pytest.mark.parametrize(
    ("ratio", "kind"),
    [
        (Spread(0.5, 0.4, 0.6), "faster"),
        (Spread(0.97, 0.96, 0.98), "equal"),
        (Spread(0.8, 0.5, 1.1), "equal"),
        (Spread(1.5, 0.9, 2.0), "equal"),
        (Spread(1.04, 1.03, 1.05), "equal"),
        (Spread(1.2, 1.1, 1.3), "slower"),
    ],
)
def test_standing(ratio: Spread, kind: str) -> None:
    assert standing(ratio) == kind


def times_of(seconds: float) -> tuple[list[str], dict[str, list[float]]]:
    """Calls and samples of three functions that take so long by the clock."""
    calls: list[str] = []
    steps: dict[str, Callable[[], object]] = {name: lambda name=name: calls.append(name) for name in "abc"}

    def clock(step: timing.Step, loops: int) -> float:
        for _ in range(loops):
            step()
        return seconds

    return calls, timing.interleaved(steps, clock, seconds=0)


def test_each_round_has_all_in_an_order_of_its_own() -> None:
    calls, samples = times_of(2 * timing.LONG)
    assert {name: len(of_name) for name, of_name in samples.items()} == dict.fromkeys("abc", timing.FEWEST)
    after = calls[3 * 3 :]  # three calls of each come first
    rounds = ["".join(after[start : start + 3]) for start in range(0, len(after), 3)]
    assert len(rounds) == timing.FEWEST and len(set(rounds)) > 1
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)


def test_a_short_step_is_called_once_more_and_then_several_times() -> None:
    calls, _ = times_of(timing.SHORTEST / 4)
    after = calls[3 * 3 :]
    blocks = [after[start : start + 5] for start in range(0, len(after), 5)]
    assert len(blocks) == 3 * timing.FEWEST
    assert all(len(set(block)) == 1 for block in blocks)


# ---------------------------------------------------------------------------------------------------------- the checks


def scaled(pred: Tensor, target: Tensor) -> Tensor:
    return (pred * target).sum()


@pytest.fixture
def given() -> Inputs:
    generator = torch.Generator().manual_seed(0)
    return Inputs(torch.randn(4, 3, generator=generator).requires_grad_(), torch.randn(4, 3, generator=generator))


def test_agreement(given: Inputs) -> None:
    truth = checks.step(scaled, checks.replaced(given, lambda t: t.detach().double().requires_grad_()))
    assert checks.agrees(checks.distance(checks.step(scaled, given), truth))
    found = checks.step(scaled, given)
    for wrong in (1.02, math.nan):
        assert not checks.agrees(checks.distance((found[0] * wrong, found[1]), truth))
        assert not checks.agrees(checks.distance((found[0], found[1] * wrong), truth))


def test_syncs(given: Inputs) -> None:
    def waits(pred: Tensor, target: Tensor) -> Tensor:
        pred.detach().numpy()
        return pred[target > 0].sum() * float(target.sum().item())

    assert checks.syncs(lambda: scaled, given) == 0
    assert checks.syncs(lambda: waits, given) == 4  # the backward of a mask counts too


def test_what_runs_on_meta_waits_for_nothing(given: Inputs) -> None:
    class Looks(torch.nn.Module):
        """Looks at values where they are in the CPU's memory."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", torch.ones(()))

        def forward(self, pred: Tensor, target: Tensor) -> Tensor:
            if pred.is_cpu:
                assert pred.detach().abs().sum().item() >= 0
            return (pred * self.scale * target).sum()

    assert checks.on_meta(Looks, given)
    assert checks.syncs(Looks, given) == 0
    assert not checks.on_meta(lambda: lambda pred, target: pred.sum() * pred.sum().item(), given)


def test_other_batch_sizes() -> None:
    images = Inputs(
        torch.zeros(2, 3, 64, 64), torch.zeros(2, 64, 64), {"weight": torch.zeros(2), "other": torch.ones(3)}
    )
    cut = checks.resized(images, 5)
    assert cut.pred.shape == (5, 3, 32, 32)
    assert cut.target.shape == (5, 32, 32)
    assert [cut.call[name].shape for name in ("weight", "other")] == [(5,), (3,)]


def test_recompilations_and_breaks_of_a_compiled_function(given: Inputs) -> None:
    def broken(pred: Tensor, target: Tensor) -> Tensor:
        torch._dynamo.graph_break()
        return (pred * target).sum()

    class Counts(torch.nn.Module):
        number = 0

        def forward(self, pred: Tensor, target: Tensor) -> Tensor:
            self.number += 1
            return (pred * target).sum() * self.number

    assert checks.recompilations(scaled, given) == 0
    assert checks.recompilations(Counts(), given) > 0
    assert checks.graph_breaks(scaled, given) == 0
    assert checks.graph_breaks(broken, given) == 1
    with pytest.raises(torch._dynamo.exc.Unsupported):
        checks.recompilations(broken, given)


def test_floor_moves_what_must_move() -> None:
    given = Inputs(torch.zeros(10, 4), torch.zeros(10, dtype=torch.long))
    copied = floor(given)()
    assert isinstance(copied, Tensor)
    # read: 40 floats and 10 labels; written: 40 floats; a copy both reads and writes each of its bytes
    assert 2 * copied.numel() * 4 == (40 + 40) * 4 + 10 * 8


# --------------------------------------------------------------------------------------------------- results and pages


def contender(ms: float, ratio: float, **more: Any) -> Contender:
    return Contender("agrees", eager_ms=Spread(ms, ms, ms), eager_ratio=Spread(ratio, ratio, ratio), **more)


@pytest.fixture
def report() -> Report:
    cases = []
    for name, ms in (("ce_4x19x256", 1.0), ("ce_256x1000", 4.0)):
        case = CaseResult(name, "losses-cls", {"type": "CrossEntropyLoss"}, [4, 19], False, floor_ms=Spread(1, 1, 1))
        case.contenders = {
            OURS: contender(ms, 1.0, saved=1.0, peak=1.25, syncs=0),
            "torch": contender(2.0, ms / 2.0, saved=2.0, peak=3.0, syncs=3),
            "quick": Contender("variant", "computes less", eager_ms=Spread(0.1, 0.1, 0.1)),
            "wrong": Contender("disagrees", value_error=0.5, gradient_error=0.25, eager_ms=Spread(0.1, 0.1, 0.1)),
            "absent": Contender("missing"),
        }
        case.over_floor = Spread(ms, ms, ms)
        cases.append(case)
    first = cases[0].contenders
    cases[0].kernels, first[DEFINITION] = ["losses_cls.cross_entropy"], contender(1.5, 0.5)
    first[OURS].breaks, first[OURS].recompilations, first["torch"].breaks = 0, 0, 2
    metadata = {
        "date": "2030-01-02",
        "device": "cpu",
        "machine": "x86-64",
        "cores": 2,
        "compiled": False,
        "allocator": {"MALLOC_X_": "0"},
        "python": "3.11",
        "versions": {"torch": "2"},
        "peers": {"kornia": "1"},
    }
    return Report(metadata, cases)


def test_the_fastest_peer_is_one_that_agrees_and_not_the_definition(report: Report) -> None:
    assert report.cases[0].fastest() == "torch"
    assert report.cases[0].fastest(compiled=True) is None


def test_what_is_counted_at_one_size_counts_for_the_others(report: Report) -> None:
    share_facts(report.cases)
    assert report.cases[1].contenders["torch"].breaks == 2
    needed = facts_needed(["giou_200k", "giou_300", "iou_300"])
    assert needed == {"giou_200k": True, "giou_300": False, "iou_300": True}


def test_a_report_is_read_as_it_was_written(report: Report, tmp_path: Path) -> None:
    report.write(tmp_path / "new" / "report.json")
    assert Report.read(tmp_path / "new" / "report.json") == report


@pytest.fixture
def counted() -> Table:
    def one(moved: int, peak: int) -> Implementation:
        figures = Figures(kernels=2, bytes=moved, seconds=1e-5, saved=0, peak=peak, pred=100)
        return Implementation("agrees", figures={"float32": figures, "bfloat16 large": figures})

    implementations = {OURS: one(500, 125), DEFINITION: one(1000, 500), "torch": one(800, 300)}
    name = "ce_4x19x256"
    return Table({}, {name: CaseCount(name, "losses-cls", {}, implementations)})


def test_page(report: Report, counted: Table) -> None:
    text = page.render(report, counted)
    assert "| `ce_4x19x256` | 1 | torch | 2 | 0.50 (0.50–0.50) | 1 |" in text
    assert "| `ce_4x19x256` | 1 / 2 | 1.25 / 3 | 0 / 2 | 0 / – | 0 / 3 |" in text
    assert "fastest other library, **slower**: `ce_256x1000` 2.00" in text
    assert "| eager: this library / fastest other library | 1.00 | 1.00 | 1 | 0 | 1 |" in text
    assert "| this library, eager: kernel / definition | 0.50 | 0.50 | 1 | 0 | 0 |" in text
    worth = "| `ce_4x19x256` | `losses_cls.cross_entropy` | 1 | 1.5 | 0.50 (0.50–0.50) | – | – | – | 0.50 | 0.25 |"
    assert worth in text
    assert "### Accelerator cost: losses-cls" in text
    assert "| `ce_4x19x256` | quick | computes less | 0.1 | – |" in text
    assert "- `ce_4x19x256`, wrong: does not agree (value 5e-01, gradient 2e-01)" in text
    assert "2 comparisons skipped: absent" in text


def test_table() -> None:
    assert table(["a", "b"], [["x|y", "1"]], left=1) == "| a | b |\n| --- | --: |\n| x\\|y | 1 |"


def test_options() -> None:
    assert chosen("giou_*") == chosen("giou") == ["giou_200k", "giou_300"]
    assert chosen(None) == list(CASES)
    assert chosen("nothing like it") == []
    assert not arguments([]).render


@pytest.mark.parametrize("name", ["benchmark.md", "edge-inputs.md"])
def test_links_of_the_pages(name: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (PAGES / name).read_text())
    assert links
    assert [link for link in links if not (PAGES / link).exists()] == []


def test_links_of_the_readme(root: Path) -> None:
    folder = root / "benchmarks"
    links = re.findall(r"\]\(([^)#]+)\)", (folder / "README.md").read_text())
    assert [link for link in links if not (folder / link).exists()] == []


def test_numbers_of_the_readme_are_those_of_the_pages(root: Path) -> None:
    section = (root / "README.md").read_text().partition("## Comparison with other libraries")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| .*[0-9].*$", section, re.MULTILINE)
    pages = "".join((PAGES / name).read_text() for name in ("benchmark.md", "edge-inputs.md"))
    assert len(rows) > 4
    assert [row for row in rows if row not in pages] == []


def test_the_page_is_that_of_the_numbers() -> None:
    counted = Table.read(RESULTS / "accelerator.json")
    assert page.render(Report.read(RESULTS / "benchmark.json"), counted) == (PAGES / "benchmark.md").read_text()
