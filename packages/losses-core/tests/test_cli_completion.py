"""Completion of a shell: what it offers, and that neither torch nor a package of losses is imported for it."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

import losses_core
from losses_core._cli import COMMANDS, _completion
from losses_core._cli._completion import SUFFIXES
from losses_core.config import _PARSERS
from losses_testkit.fake_distributions import FakeSite

from .conftest import install

pytest.importorskip("argcomplete")


@pytest.fixture
def work(site: FakeSite, tmp_path: Path) -> Path:
    """A folder with configs and others, where importing torch or a loss fails."""
    module = install(site, "acme-seg", "MyDiceLoss", "MyLovaszLoss", group="losses_core.losses")
    site.write(module, "raise ImportError")
    site.write("torch", "raise ImportError")
    folder = tmp_path / "work"
    folder.joinpath("configs").mkdir(parents=True)
    for name in ("a.yaml", "b.toml", "c.txt"):
        folder.joinpath(name).touch()
    return folder


def completions(line: str, site: FakeSite, work: Path) -> set[str]:
    answer = work.parent / "answer"
    answer.unlink(missing_ok=True)
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_STDOUT_FILENAME": str(answer)}
    env = os.environ | asked | {"COMP_LINE": line, "COMP_POINT": str(len(line)), "PYTHONPATH": str(site.folder)}
    command = [sys.executable, "-W", "error", "-c", "from losses_core._cli import main; main()"]
    done = subprocess.run(command, env=env, cwd=work, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
    return {line.rstrip() for line in answer.read_text().split("\n")}


def test_completions(site: FakeSite, work: Path) -> None:
    assert completions("losses ", site, work) >= set(COMMANDS)
    assert completions("losses sh", site, work) == {"show"}
    for command in ("show", "list", "plot", "plot MyLovaszLoss", "doctor"):
        assert completions(f"losses {command} My", site, work) == {"MyDiceLoss", "MyLovaszLoss"}
    assert completions("losses check ", site, work) == {"a.yaml", "b.toml", "configs/"}
    assert completions("losses probe ", site, work) >= {"MyDiceLoss", "a.yaml", "b.toml"}
    assert completions("losses probe a", site, work) == {"a.yaml"}
    assert completions("losses doctor --device ", site, work) == {"cpu", "cuda", "mps", "xpu"}
    assert completions("losses doctor --dev", site, work) == {"--device"}


def test_completers(site: FakeSite, work: Path, losses: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in this process."""
    monkeypatch.chdir(work)
    assert set(_completion.losses("S")) == {"SizedLoss", "SquareLoss"}
    assert set(_completion.configs("")) == {"a.yaml", "b.toml", "configs/"}
    assert set(_completion.losses_and_configs("S")) == {"SizedLoss", "SquareLoss"}
    asked: list[argparse.ArgumentParser] = []
    monkeypatch.setattr("argcomplete.autocomplete", lambda parser, **_: asked.append(parser))
    parser = argparse.ArgumentParser()
    _completion.complete(parser)
    assert asked == []
    monkeypatch.setenv("_ARGCOMPLETE", "1")
    _completion.complete(parser)
    assert asked == [parser]
    monkeypatch.setitem(sys.modules, "argcomplete", None)
    _completion.complete(parser)
    assert asked == [parser]


def test_the_shell_is_not_answered_where_argcomplete_is_missing(site: FakeSite, work: Path) -> None:
    site.write("argcomplete", "raise ModuleNotFoundError")
    env = os.environ | {"_ARGCOMPLETE": "1", "PYTHONPATH": str(site.folder)}
    command = [sys.executable, "-c", "from losses_core._cli import main; main(['--version'])"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_suffixes_are_those_that_can_be_read() -> None:
    assert tuple(_PARSERS) == SUFFIXES


def test_the_marker_for_a_shell_that_is_set_up_for_all_programs() -> None:
    main = Path(losses_core.__file__).with_name("__main__.py").read_bytes()
    assert b"PYTHON_ARGCOMPLETE_OK" in main[:1024]
