"""Files that a visitor of the repository reads: links lead somewhere, forms can be filled in, versions agree."""

import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / ".github").rglob("*.md")), *(p / "README.md" for p in PACKAGES)]
PAGES += [ROOT / "tests" / "testkit" / "README.md", ROOT / "benchmarks" / "README.md"]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
LINK = re.compile(r"\]\(([^()\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
ON_THE_SITE = "../../security/", "../../issues", "../../discussions"
"""Beginnings of links to pages that GitHub serves beside the files of a repository."""


def read(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def project(package: Path) -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if link.startswith(("http://", "https://", "mailto:", *ON_THE_SITE)):
            continue
        path, _, anchor = link.partition("#")
        file = page.parent / path if path else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(link)
    assert not broken


def test_every_address_names_the_same_repository() -> None:
    repository = read("CITATION.cff")["repository-code"]
    text = "\n".join(path.read_text(encoding="utf-8") for path in [*PAGES, *FORMS])
    text += "\n".join(url for package in PACKAGES for url in project(package)["urls"].values())
    owner = repository.rpartition("/")[0]
    assert repository in text
    assert set(re.findall(rf"{owner}/[\w.-]+", text)) == {repository}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_package_says_where_it_comes_from(package: Path) -> None:
    about = project(package)
    repository = read("CITATION.cff")["repository-code"]
    urls = about["urls"]
    assert list(urls) == ["Repository", "Documentation", "Changelog", "Issues", "Security"]
    assert all(url.startswith(repository) for url in urls.values())
    assert urls["Changelog"].endswith(f"/packages/{package.name}/CHANGELOG.md")
    readme = (package / "README.md").read_text(encoding="utf-8")
    assert all(urls[name] in readme for name in ("Documentation", "Changelog", "Issues", "Security"))
    relative = [link for link in LINK.findall(FENCE.sub("", readme)) if "://" not in link]
    assert not relative, "the package index shows this file alone"
    assert len(about["keywords"]) >= 5
    assert len(set(about["classifiers"])) == len(about["classifiers"]) >= 6


def test_the_citation_is_valid_and_current() -> None:
    cited = read("CITATION.cff")
    required = {"cff-version", "message", "title", "authors"}
    optional = {"abstract", "date-released", "doi", "identifiers", "keywords", "license", "references", "type", "url"}
    optional |= {"repository-code", "version"}
    assert required <= cited.keys() <= required | optional
    assert cited["cff-version"] == "1.2.0"
    assert cited["type"] == "software"
    assert all(author.keys() in ({"name"}, {"family-names", "given-names"}) for author in cited["authors"])
    core = next(package for package in PACKAGES if package.name == "losses-core")
    version = runpy.run_path(str(core / "src" / "losses_core" / "_version.py"))["__version__"]
    assert str(cited["version"]) == version
    assert {cited["license"]} == {project(package)["license"] for package in PACKAGES}


def test_the_changelog_lists_every_package() -> None:
    listed = re.findall(
        r"^- \[([\w-]+)\]\(packages/\1/CHANGELOG\.md\)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert sorted(listed) == [package.name for package in PACKAGES]
    security = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert all(f"`{package.name}`" in security for package in PACKAGES)


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_issue_forms(path: Path) -> None:
    form = read(path.relative_to(ROOT).as_posix())
    if path.stem == "config":
        assert form["blank_issues_enabled"] is False
        assert all(link.keys() == {"name", "url", "about"} for link in form["contact_links"])
        return
    assert form.keys() == {"name", "description", "labels", "body"}
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    ids = [field["id"] for field in fields]
    assert len(set(ids)) == len(ids)
    for field in fields:
        assert field["type"] in {"checkboxes", "dropdown", "input", "textarea"}
        assert field["attributes"]["label"]
        assert ("options" in field["attributes"]) == (field["type"] in {"checkboxes", "dropdown"})
        assert all(
            isinstance(o, str) != (field["type"] == "checkboxes") for o in field["attributes"].get("options", ())
        )
    assert any(field.get("validations", {}).get("required") for field in fields)


def test_pre_commit_runs_sessions_without_versions_of_its_own() -> None:
    config = read(".pre-commit-config.yaml")
    assert [repository["repo"] for repository in config["repos"]] == ["local"]
    hooks = config["repos"][0]["hooks"]
    assert [hook["id"] for hook in hooks] == ["lint", "typecheck"]
    sessions = re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text(), re.MULTILINE)
    for hook in hooks:
        assert hook["language"] == "system"
        assert hook["entry"].split()[-2:] == ["--session", hook["id"]]
        assert hook["id"] in sessions


OLD = """
import runpy, sys
sys.version_info = (3, 10, 13, "final", 0)
runpy.run_path("noxfile.py")
"""


def test_an_old_python_is_told_at_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", OLD], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("This project needs Python 3.11 or newer; nox runs under 3.10.13 (")
    assert "Traceback" not in done.stderr
    assert {project(package)["requires-python"] for package in PACKAGES} == {">=3.11"}


def test_python_3_10_itself() -> None:
    python = shutil.which("python3.10")
    if python is None or subprocess.run([python, "--version"], capture_output=True, check=False).returncode:
        pytest.skip("no Python 3.10 here")
    done = subprocess.run([python, "noxfile.py"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("This project needs Python 3.11 or newer; nox runs under 3.10.")
