"""Preparing a release, on a small repository: what is written, and what stops it before anything is."""

import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CHANGELOG = "# Changelog\n\nNewest first.\n\n<!-- towncrier: release notes start -->\n"
Main = Callable[..., int]


@pytest.fixture(scope="module")
def tool(root: Path) -> dict[str, Any]:
    return runpy.run_path(str(root / "tools" / "release.py"))


@pytest.fixture
def repository(root: Path, tmp_path: Path) -> Path:
    """A core, a package that needs it, a facade with an extra, and an unpublished package beside them."""
    shutil.copy(root / "pyproject.toml", tmp_path)
    add(tmp_path, "packages/losses-core", "0.1.0")
    add(tmp_path, "packages/losses-red", "0.3.1", ["losses-core>=0.1,<0.2", "torch>=2.6"])
    extras = 'red = ["losses-red>=0.3,<0.4"]\nall = ["losses[red]"]'
    add(tmp_path, "packages/losses", "0.1.0", ["losses-core>=0.1,<0.2"], extras)
    (tmp_path / "tests" / "kit").mkdir(parents=True)
    (tmp_path / "tests" / "kit" / "pyproject.toml").write_text(
        '[project]\nname = "losses-kit"\nversion = "1"\ndependencies = ["losses-core<0.3"]\n'
    )
    return tmp_path


def add(root: Path, folder: str, version: str, requirements: list[str] | None = None, extras: str = "") -> None:
    package = root / folder
    source = package / "src" / package.name.replace("-", "_")
    source.mkdir(parents=True)
    (source / "_version.py").write_text(f'"""The version."""\n\n__version__ = "{version}"\n')
    (package / "CHANGELOG.md").write_text(CHANGELOG)
    (package / "changelog.d").mkdir()
    (package / "changelog.d" / "+new.added.md").write_text(f"Something new in {package.name}.\n")
    text = f'[project]\nname = "{package.name}"\ndependencies = {requirements or []}\n'
    (package / "pyproject.toml").write_text(f"{text}[project.optional-dependencies]\n{extras}\n")


def contents(root: Path) -> dict[str, str]:
    return {path.relative_to(root).as_posix(): path.read_text() for path in root.rglob("*") if path.is_file()}


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_release(tool: dict[str, Any], repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(repository)
    (repository / "packages/losses-red/changelog.d/+bug.fixed.md").write_text("One thing less.\n")
    assert tool["main"](["losses-red", "0.3.2"], repository) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "losses-red-v0.3.2"
    after = contents(repository)
    folder = "packages/losses-red"
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert changed == {
        f"{folder}/{name}" for name in ("CHANGELOG.md", "changelog.d/+new.added.md", "src/losses_red/_version.py")
    }
    assert after[f"{folder}/src/losses_red/_version.py"] == '"""The version."""\n\n__version__ = "0.3.2"\n'
    log = after[f"{folder}/CHANGELOG.md"]
    assert log.startswith(CHANGELOG)
    assert log.index("## 0.3.2 (") < log.index("### Added") < log.index("Something new") < log.index("### Fixed")
    assert not list((repository / folder / "changelog.d").glob("*"))
    assert tool["main"](["--tag", "losses-red-v0.3.2"], repository) == 0
    assert capsys.readouterr().out == "losses-red\n"


def test_later_releases_stand_above(tool: dict[str, Any], repository: Path) -> None:
    """The first may have the version that the file says already: it has not been released."""
    package = repository / "packages" / "losses-red"
    for version in ("0.3.1", "0.3.2rc1", "0.3.2"):
        fragment = package / "changelog.d" / "+more.changed.md"
        fragment.parent.mkdir(exist_ok=True)
        fragment.write_text(f"Changed for {version}.\n")
        assert tool["main"](["losses-red", version], repository) == 0
    log = (package / "CHANGELOG.md").read_text()
    expected = [line for version in ("0.3.2", "0.3.2rc1", "0.3.1") for line in (f"## {version} (", f"for {version}.")]
    assert sorted(expected, key=log.index) == expected


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["losses-rde", "0.3.2"], "there is no package 'losses-rde'; there are losses, losses-core, losses-red."),
        (["losses-red", "next"], "'next' is not a version, such as"),
        (["losses-red", "v0.3.2"], "write the version 'v0.3.2' as 0.3.2."),
        (["losses-red", "0.3.2+cpu"], "write the version '0.3.2+cpu' as 0.3.2."),
        (["losses-red", "0.3.0"], "losses-red is at 0.3.1, which is later than 0.3.0."),
        (["losses-red", "0.4.0"], "losses requires losses-red<0.4,>=0.3, which leaves out losses-red 0.4.0."),
        (["losses-core", "0.3.0"], "losses-kit requires losses-core<0.3, which leaves out losses-core 0.3.0."),
        (["--tag", "losses-red-v0.3.2"], "the tag losses-red-v0.3.2 is on a tree where losses-red is at 0.3.1."),
        (["--tag", "losses-red-v0.3.1"], "packages/losses-red/CHANGELOG.md has nothing on 0.3.1."),
        (["--tag", "losses-blue-v0.3.1"], "'losses-blue-v0.3.1' is no tag of a release, such as losses-v0.1.0."),
        (["--tag", "0.3.1"], "'0.3.1' is no tag of a release"),
    ],
)
def test_refused(
    tool: dict[str, Any], repository: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    before = contents(repository)
    assert tool["main"](arguments, repository) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("release: ")
    assert text in printed.err
    assert contents(repository) == before


def test_all_ranges_are_told(tool: dict[str, Any], repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool["main"](["losses-core", "0.2.0"], repository) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines] == ["release:", "losses", "losses-red"]
    for folder in ("losses", "losses-red"):
        replace(repository / "packages" / folder / "pyproject.toml", "losses-core>=0.1,<0.2", "losses-core>=0.1,<0.3")
    assert tool["main"](["losses-core", "0.2.0"], repository) == 0


def test_range_without_an_end(tool: dict[str, Any], repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replace(repository / "packages/losses/pyproject.toml", "losses-red>=0.3,<0.4", "losses-red>=0.3")
    assert tool["main"](["losses-core", "0.1.1"], repository) == 1
    assert "losses requires losses-red>=0.3: the range has no upper end." in capsys.readouterr().err


def test_nothing_to_tell(tool: dict[str, Any], repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / "packages/losses-red/changelog.d/+new.added.md").unlink()
    assert tool["main"](["losses-red", "0.3.2"], repository) == 1
    assert "losses-red has no fragment in changelog.d" in capsys.readouterr().err


def test_released_before(tool: dict[str, Any], repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool["main"](["losses-red", "0.3.2"], repository) == 0
    assert tool["main"](["losses-red", "0.3.2"], repository) == 1
    assert "losses-red 0.3.2 is in packages/losses-red/CHANGELOG.md already." in capsys.readouterr().err


def test_tag_with_ranges_that_do_not_fit(
    tool: dict[str, Any], repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool["main"](["losses-red", "0.3.2"], repository) == 0
    replace(repository / "packages/losses/pyproject.toml", "losses-red>=0.3,<0.4", "losses-red>=0.4,<0.5")
    assert tool["main"](["--tag", "losses-red-v0.3.2"], repository) == 1
    assert "leaves out losses-red 0.3.2" in capsys.readouterr().err


CITATION = "title: losses\nversion: 0.1.0 # that of losses-core; …\n"


def test_the_citation_follows_one_package(tool: dict[str, Any], repository: Path) -> None:
    file = repository / "CITATION.cff"
    file.write_text(CITATION)
    assert tool["main"](["losses-red", "0.3.2"], repository) == 0
    assert file.read_text() == CITATION
    for version in ("0.1.1", "0.1.2"):
        (repository / "packages/losses-core/changelog.d").mkdir(exist_ok=True)
        (repository / "packages/losses-core/changelog.d/+more.added.md").write_text("More.\n")
        assert tool["main"](["losses-core", version], repository) == 0
    lines = file.read_text().splitlines()
    assert lines[:2] == ["title: losses", "version: 0.1.2 # that of losses-core; …"]
    assert [line.partition(":")[0] for line in lines[2:]] == ["date-released"]


@pytest.mark.parametrize(
    ("url", "cited", "fault"),
    [
        ("https://git.example/us/losses", "https://git.example/us/losses", None),
        ("https://git.example/us/losses/issues", "https://git.example/us/losses", None),
        (
            "https://git.example/us/losses-fork",
            "https://git.example/us/losses",
            "Issues is https://git.example/us/losses-",
        ),
        ("https://git.example/us/losses", "https://git.example/others/losses", "CITATION.cff does not name it"),
    ],
)
def test_links_lead_to_the_repository_that_releases(
    tool: dict[str, Any],
    repository: Path,
    capsys: pytest.CaptureFixture[str],
    url: str,
    cited: str,
    fault: str | None,
) -> None:
    assert tool["main"](["losses-red", "0.3.2"], repository) == 0
    (repository / "CITATION.cff").write_text(f"{CITATION}repository-code: {cited}\n")
    project = repository / "packages/losses-red/pyproject.toml"
    project.write_text(f'{project.read_text()}[project.urls]\nIssues = "{url}"\n')
    arguments = ["--tag", "losses-red-v0.3.2", "--repository", "https://git.example/us/losses"]
    assert tool["main"](arguments, repository) == (0 if fault is None else 1)
    assert (fault or "") in capsys.readouterr().err


def test_fragment_of_no_type(tool: dict[str, Any], repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """towncrier passes over a file whose name it cannot read; a change would be lost."""
    (repository / "packages/losses-red/changelog.d/new-thing.md").write_text("Lost.\n")
    before = contents(repository)
    assert tool["main"](["losses-red", "0.3.2"], repository) == 1
    assert "new-thing.md" in capsys.readouterr().err
    assert contents(repository) == before


@pytest.mark.parametrize("arguments", [[], ["losses-red"], ["losses-red", "0.3.2", "--tag", "losses-red-v0.3.2"]])
def test_usage(tool: dict[str, Any], repository: Path, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        tool["main"](arguments, repository)
    assert caught.value.code == 2


def test_this_repository_fits(tool: dict[str, Any], root: Path) -> None:
    versions = {name: package.version for name, package in tool["packages"](root).items()}
    assert list(tool["range_faults"](root, versions)) == []
