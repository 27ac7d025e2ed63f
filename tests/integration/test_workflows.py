"""The workflows run sessions that exist, and a tag publishes the files of its package, no others, after the tests."""

import fnmatch
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / ".github" / "workflows"
NAMES = [path.parent.name for path in sorted(Path(__file__).parents[2].glob("packages/*/pyproject.toml"))]

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="the steps are shell scripts")


def workflow(name: str) -> Any:
    content = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
    content["on"] = content.pop(True)  # YAML 1.1 reads the key `on` as a truth value
    return content


def scripts(content: Any) -> list[str]:
    return [step["run"] for job in content["jobs"].values() for step in job.get("steps", []) if "run" in step]


def run_step(content: Any, job: str, step: str, folder: Path, **env: str) -> dict[str, str]:
    """Run the script of a step as the runner does, and give what it set as outputs."""
    (script,) = [s["run"] for s in content["jobs"][job]["steps"] if s.get("id") == step]
    output = folder / "outputs"
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    env = os.environ | env | {"GITHUB_OUTPUT": str(output)}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    lines = output.read_text().splitlines() if output.exists() else []
    return dict(line.split("=", 1) for line in lines)


def fake_ci(folder: Path, script: str) -> None:
    ci = folder / ".ci" / "run"
    ci.parent.mkdir()
    ci.write_text(f"#!/usr/bin/env bash\n{script}\n")
    ci.chmod(0o755)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yml")), ids=lambda path: path.name)
def test_sessions_exist(path: Path, root: Path) -> None:
    sessions = set(re.findall(r"^def (\w+)\(session", (root / "noxfile.py").read_text(), re.MULTILINE))
    named = [name for script in scripts(workflow(path.name)) for name in re.findall(r"\.ci/run -s (\S+)", script)]
    assert named
    assert {name for name in named if name != '"${{'} <= sessions


@pytest.mark.skipif(shutil.which("jq") is None, reason="the step reads JSON with jq")
def test_every_default_session_is_run(tmp_path: Path) -> None:
    listed = '[{"session": "lint"}, {"session": "build"}, {"session": "tests-cls"}, {"session": "coverage"}]'
    fake_ci(tmp_path, f"[[ $* == '--list --json' ]] && echo '{listed}'")
    found = run_step(workflow("tests.yml"), "sessions", "list", tmp_path)
    assert found == {"names": '["lint","tests-cls"]'}
    matrix = workflow("tests.yml")["jobs"]["session"]["strategy"]["matrix"]
    assert matrix == {"session": "${{ fromJSON(needs.sessions.outputs.names) }}"}


@pytest.mark.parametrize("name", NAMES)
def test_a_tag_starts_a_release(name: str) -> None:
    patterns = workflow("release.yml")["on"]["push"]["tags"]
    assert any(fnmatch.fnmatchcase(f"{name}-v0.1.0", pattern) for pattern in patterns)
    assert not any(fnmatch.fnmatchcase(tag, pattern) for pattern in patterns for tag in ("v0.1.0", f"{name}-0.1.0"))


TAGGED = {
    "GITHUB_REF_NAME": "losses-seg-v0.1.0",
    "GITHUB_SERVER_URL": "https://example.org",
    "GITHUB_REPOSITORY": "a/losses",
}


def test_the_tag_names_the_package(tmp_path: Path) -> None:
    arguments = "-s release -- --tag losses-seg-v0.1.0 --repository https://example.org/a/losses"
    fake_ci(tmp_path, f'[[ $* == "{arguments}" ]] && printf "installing\\nlosses-seg\\n"')
    found = run_step(workflow("release.yml"), "package", "tag", tmp_path, **TAGGED)
    assert found == {"name": "losses-seg"}


def test_a_wrong_tag_stops_the_release(tmp_path: Path) -> None:
    fake_ci(tmp_path, "echo losses-seg; exit 1")
    with pytest.raises(AssertionError):
        run_step(workflow("release.yml"), "package", "tag", tmp_path, **TAGGED)


@pytest.mark.parametrize("name", NAMES)
def test_files_of_one_package_are_published(name: str, tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    for stem in (*(name.replace("-", "_") for name in NAMES), "losses_testkit"):
        (tmp_path / "dist" / f"{stem}-0.1.0.tar.gz").touch()
        (tmp_path / "dist" / f"{stem}-0.1.0-py3-none-any.whl").touch()
    run_step(workflow("release.yml"), "build", "select", tmp_path, PACKAGE=name)
    stem = name.replace("-", "_")
    assert {path.name for path in (tmp_path / "upload").iterdir()} == {
        f"{stem}-0.1.0.tar.gz",
        f"{stem}-0.1.0-py3-none-any.whl",
    }


def test_nothing_is_published_untested() -> None:
    jobs = workflow("release.yml")["jobs"]
    assert jobs["tests"]["uses"] == "./.github/workflows/tests.yml"
    assert "tests" in jobs["build"]["needs"]
    assert jobs["publish"]["needs"] == "build"
    assert workflow("release.yml")["permissions"] == {"contents": "read"}
    assert [name for name, job in jobs.items() if "permissions" in job] == ["publish"]
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    (upload,) = [step for step in jobs["publish"]["steps"] if step["uses"].startswith("pypa/gh-action-pypi-publish@")]
    assert upload["with"] == {
        "packages-dir": "upload",
        "attestations": True,
    }  # no password: the index trusts the workflow
    assert jobs["publish"]["environment"] == "release"
