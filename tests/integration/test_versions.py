"""The versions of torch and Python that are tested are those that the packages declare and the workflow runs."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
import versions
import yaml
from repository import packages

PYTHONS = sorted(set(versions.MATRIX.values()), key=lambda text: int(text.partition(".")[2]))


def projects(root: Path) -> dict[str, dict[str, Any]]:
    paths = [*root.glob("packages/*/pyproject.toml"), root / "tests/testkit/pyproject.toml"]
    return {path.parent.name: tomllib.loads(path.read_text(encoding="utf-8"))["project"] for path in sorted(paths)}


def test_floors(root: Path) -> None:
    for name, project in projects(root).items():
        floors = [line for line in project["dependencies"] if line.startswith("torch")]
        oldest = versions.RELEASES[0].removesuffix(".0")
        assert floors == ([] if name == "losses" else [f"torch>={oldest}"]), name
        assert project["requires-python"] == f">={PYTHONS[0]}", name


def test_classifiers(root: Path) -> None:
    for package in packages(root):
        prefix = "Programming Language :: Python :: "
        given = [line.removeprefix(prefix) for line in package.project["classifiers"] if line.startswith(prefix)]
        assert given == PYTHONS, package.name


def test_matrix(root: Path) -> None:
    """Releases in order, each Python somewhere, and the pinned torch among them on the Python of all other tests."""
    numbers = [tuple(map(int, version.split("."))) for version in versions.RELEASES]
    assert numbers == sorted(numbers)
    (pinned,) = re.findall(r"^torch==(.*)$", (root / "constraints.txt").read_text(), re.MULTILINE)
    assert versions.MATRIX[pinned] == PYTHONS[0]
    assert len({versions.MATRIX[version] for version in versions.RELEASES}) == len(PYTHONS)


def test_workflow(root: Path) -> None:
    job = yaml.safe_load((root / ".github/workflows/versions.yml").read_text())["jobs"]["versions"]
    matrix = job["strategy"]["matrix"]
    run = {*matrix["torch"], *(entry["torch"] for entry in matrix["include"])}
    assert run == set(versions.MATRIX)
    (setup,) = [step for step in job["steps"] if step.get("uses", "").startswith("actions/setup-python")]
    installed = setup["with"]["python-version"].split()
    assert sorted(installed) == PYTHONS
    assert installed[-1] == PYTHONS[0]  # the last one is the default, which builds the wheels


def test_results_are_whole_and_pass(root: Path) -> None:
    for version, row in json.loads((root / versions.RESULTS).read_text()).items():
        assert row.keys() == set(versions.COLUMNS), version
        assert row["failed"] == 0, version
        assert row["passed"] > 10000, version
        assert row["python"].startswith(versions.MATRIX.get(version, "3."))


def test_arguments_of_the_session() -> None:
    assert versions.chosen([]) == (versions.RELEASES, [])
    assert versions.chosen(["2.6.0", "-k", "focal"]) == (["2.6.0"], ["-k", "focal"])
    assert versions.chosen(["-x"]) == (versions.RELEASES, ["-x"])
    with pytest.raises(SystemExit, match=r"expected versions of 2\.6\.0, .*; got 1\.0"):
        versions.chosen(["1.0"])
    assert versions.requirement("2.6.0") == ["torch==2.6.0"]
    assert "--pre" in versions.requirement("nightly")


def test_torch_is_not_held_to_the_pinned_version(tmp_path: Path) -> None:
    variables = versions.unpinned(["numpy", "coverage[toml]"], tmp_path)
    lines = Path(variables["UV_CONSTRAINT"]).read_text().splitlines()
    assert [line.partition("==")[0] for line in lines] == ["numpy", "coverage"]


def test_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a package whose tests pass, fail and are skipped; kept where nothing was selected."""
    tests = tmp_path / "packages" / "losses-red" / "tests"
    tests.mkdir(parents=True)
    (tests.parent / "pyproject.toml").touch()
    code = "import pytest\n\ndef test_a(): pass\n\ndef test_b(): assert 0\n\ndef test_c(): pytest.skip()\n"
    (tests / "test_red.py").write_text(code)
    (tests / "test_cli_red.py").write_text("def test_left_out(): pass\n")
    monkeypatch.setattr(versions, "ROOT", tmp_path)
    assert versions.main(["--numprocesses=0"]) == 1
    version = torch.__version__.partition("+")[0]
    expected = rf"\| {re.escape(version)} \| 3\.\d+\.\d+ \| \w+ \| 1 \| 1 \| 1 \| \d{{4}}-\d\d-\d\d \|"
    assert re.fullmatch(expected, capsys.readouterr().out.splitlines()[-1])
    assert not (tmp_path / versions.RESULTS).exists()
    kept = versions.add("9.9.0+cpu", {"passed": 2, "failed": 0, "skipped": 0}, tmp_path / "rows.json", keep=True)
    assert json.loads((tmp_path / "rows.json").read_text()) == kept
    assert kept["9.9.0"]["passed"] == 2


def test_the_table() -> None:
    row = {"python": "3.12.1", "system": "Linux", "passed": 3, "failed": 0, "skipped": 1, "date": "2026-01-02"}
    assert list(versions.table({"2.10.0": row, "2.6.0": row})) == [
        "| PyTorch | Python | system | passed | failed | skipped | date |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| 2.6.0 | 3.12.1 | Linux | 3 | 0 | 1 | 2026-01-02 |",
        "| 2.10.0 | 3.12.1 | Linux | 3 | 0 | 1 | 2026-01-02 |",
    ]
