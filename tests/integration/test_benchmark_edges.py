"""The matrix of edge inputs: what a cell says, and that this library is right where there is no edge."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bench import pool
from bench.__main__ import PAGES, RESULTS
from bench.case import Function, Inputs
from bench.edges import page
from bench.edges.judge import OK, Cell, check_ordinary, judge
from bench.edges.matrix import SUBJECTS, Matrix, places
from bench.edges.subject import COLUMNS, Edge, Implementation


def given() -> Inputs:
    return Inputs(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 1.0, 1.0]))


def product(pred: Any, target: Any) -> float:
    return float((pred * target).mean())


def implementation(loss: Function, *options: str) -> Implementation:
    return Implementation(lambda option: loss, product, frozenset(options))


def raises(pred: Tensor, target: Tensor) -> Tensor:
    raise ValueError("no")


@pytest.mark.parametrize(
    ("loss", "text"),
    [
        (lambda p, t: (p * t).mean(), "ok"),
        (lambda p, t: (p * t).mean() + 1, "3 for 2"),
        (lambda p, t: (p * t).mean() * math.nan, "NaN, NaN gradient"),
        (lambda p, t: (p * t).mean() + math.inf, "inf"),
        (lambda p, t: (p * t).mean().detach() + 0 * p.sum(), "zero gradient"),
        (lambda p, t: (p * t).mean() + (p - p).abs().sqrt().sum(), "NaN gradient"),
        (lambda p, t: (p * t).mean() + 1 + 0 * (p - p).sqrt().sum(), "3 for 2, NaN gradient"),
        (lambda p, t: (p * t).mean().item(), "gives the number 2.0"),
        (lambda p, t: (p.detach() * t).mean(), "2 without a graph"),
        (raises, "raises ValueError"),
    ],
)
def test_cell(loss: Function, text: str) -> None:
    cell = judge(Edge("row", given), implementation(loss))
    assert cell == Cell(text == "ok", text)


def test_bounds_and_still() -> None:
    loss = implementation(lambda p, t: 3 + 0 * p.sum())
    assert judge(Edge("row", given, bounds=(0, 4), still=True), loss) == OK
    assert judge(Edge("row", given, bounds=(0, 2), still=True), loss).text == "3 for 0 to 2"
    assert judge(Edge("row", given, bounds=(-math.inf, math.inf), still=True), loss) == OK
    assert judge(Edge("row", given, bounds=(0, 4)), loss).text == "zero gradient"


def test_half_precision_may_be_rougher() -> None:
    loss = implementation(lambda p, t: 1.01 * (p * t).mean())
    assert not judge(Edge("row", given), loss).ok
    assert judge(Edge("row", lambda: Inputs(given().pred.half(), given().target.half())), loss).ok


def test_options() -> None:
    seen: list[str | None] = []

    def make(option: str | None) -> Function:
        seen.append(option)
        return lambda p, t: p * t

    unreduced = Edge("row", lambda: Inputs(torch.tensor([1.0, 2.0, math.nan]), torch.ones(3)), "none")
    assert judge(unreduced, Implementation(make, product, frozenset(["none"]))) == OK
    assert judge(unreduced, Implementation(make, product)).text == "no option"
    assert seen == ["none"]


def test_compiled() -> None:
    def broken(pred: Tensor, target: Tensor) -> Tensor:
        torch._dynamo.graph_break()
        return (pred * target).mean()

    edge = Edge("row", given, compiled=True)
    assert judge(edge, implementation(lambda p, t: (p * t).mean())) == OK
    assert judge(edge, implementation(broken)).text == "raises Unsupported"


@pytest.mark.parametrize("name", SUBJECTS)
def test_ours_is_right_without_edges(name: str) -> None:
    subject = SUBJECTS[name]
    assert check_ordinary(subject.ordinary, subject.libraries["losses"]) == ""


def test_rows_are_told_apart_and_libraries_have_columns() -> None:
    for subject in SUBJECTS.values():
        names = [edge.name for edge in subject.edges]
        assert len(names) == len(set(names))
        assert set(subject.libraries) <= set(COLUMNS)
        columns = [COLUMNS[library] for library in subject.libraries]
        assert len(columns) == len(set(columns))
    assert len(places("losses")) == sum(len(subject.edges) for subject in SUBJECTS.values())


def test_page_of_a_matrix(tmp_path: Path) -> None:
    cells: dict[str, dict[str, dict[str, Cell]]] = {
        name: {edge.name: {} for edge in subject.edges} for name, subject in SUBJECTS.items()
    }
    row = cells["Cross-entropy"]["all ignored"]
    row |= {"losses": Cell(False, "inf"), "torch": Cell(False, "NaN"), "smp": Cell(None, "not installed")}
    cells["Label smoothing"]["all ignored"]["losses"] = OK
    found = Matrix({"date": "2030", "python": "3", "versions": {}, "peers": {}}, cells)
    found.write(tmp_path / "edges.json")
    found = Matrix.read(tmp_path / "edges.json")
    text = page.render(found)
    assert "| all ignored | 1/2 | 0/1 | – |" in text
    assert "- Cross-entropy, all ignored: inf" in text
    assert "|  | all ignored | inf | NaN | – | not installed | – | – |" in text
    assert "1 cells skipped: smp" in text


def test_the_page_is_that_of_the_numbers() -> None:
    assert page.render(Matrix.read(RESULTS / "edges.json")) == (PAGES / "edge-inputs.md").read_text()


FRAGILE = """
import os

def work(tell, kind):
    tell("item", kind)
    if kind == "raises":
        raise ValueError("no")
    if kind == "dies":
        os._exit(3)
    return kind
"""


def test_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is returned, raised, and left unsaid by a process that dies."""
    import multiprocessing

    (tmp_path / "fragile.py").write_text(FRAGILE)
    monkeypatch.syspath_prepend(tmp_path)
    import fragile

    work: Callable[..., Any] = fragile.work
    jobs = {kind: (kind,) for kind in ("returns", "raises", "dies")}
    messages = list(pool.run(multiprocessing.get_context("spawn"), work, jobs, 2))
    assert sorted(m.job for m in messages if m.kind == "item") == ["dies", "raises", "returns"]
    last = {m.job: m for m in messages}
    assert last["returns"].content == "returns"
    assert last["raises"].kind == "error"
    assert "ValueError: no" in last["raises"].content
    assert last["dies"] == pool.Message("dies", "end", "the process ended with status 3")
