"""What the tests between packages share: the built wheels, each unpacked into a folder of its own, and a Python that
sees only the wheels it is given, next to torch and the other third-party packages of this environment."""

import compileall
import itertools
import json
import os
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
GROUP = "losses_core.losses"

Run = Callable[..., Any]


def declared_losses() -> dict[str, dict[str, str]]:
    """Plug-in → the losses it declares, for the packages of this repository."""
    projects = [tomllib.loads(path.read_text())["project"] for path in sorted(ROOT.glob("packages/*/pyproject.toml"))]
    return {p["name"]: p["entry-points"][GROUP] for p in projects if GROUP in p.get("entry-points", {})}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "subset" in metafunc.fixturenames:
        plugins = list(declared_losses())
        subsets = [chosen for n in range(len(plugins) + 1) for chosen in itertools.combinations(plugins, n)]
        metafunc.parametrize("subset", subsets, ids=["+".join(chosen) or "core-alone" for chosen in subsets])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests measured: `record_property` in any worker, shown once at the end."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{name}: {value}")


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def plugins() -> dict[str, dict[str, str]]:
    return declared_losses()


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Distribution → the folder its wheel is unpacked in, which is what an installer makes of it."""
    folders = {}
    for path in sorted(ROOT.glob("packages/*/pyproject.toml")):
        name = path.parent.name
        wheels = list((ROOT / "dist").glob(f"{name.replace('-', '_')}-*.whl"))
        assert len(wheels) == 1, f"expected one wheel of {name} in dist/, found {len(wheels)}: run `nox -s build`"
        folders[name] = tmp_path_factory.mktemp(name)
        with zipfile.ZipFile(wheels[0]) as wheel:
            wheel.extractall(folders[name])
        compileall.compile_dir(folders[name], quiet=1)
    return folders


@pytest.fixture(scope="session")
def third_party(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of this environment without those of this repository."""
    folder = tmp_path_factory.mktemp("third-party")
    for source in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(source).iterdir():
            if not entry.name.startswith(("losses", "__editable__")):
                (folder / entry.name).symlink_to(entry)
    return folder


@pytest.fixture(scope="session")
def run(unpacked: dict[str, Path], third_party: Path) -> Run:
    """`run(code, distributions, *argv)`: run code that prints JSON, where only these are installed; the parsed JSON.

    A distribution is a name of this repository or a folder.
    """

    def run(code: str, distributions: tuple[str | Path, ...], *argv: str) -> Any:
        folders = [d if isinstance(d, Path) else unpacked[d] for d in distributions]
        path = os.pathsep.join(map(str, [*folders, third_party]))
        env = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE")} | {"PYTHONPATH": path}
        # -S: without site-packages, where everything is installed
        command = [sys.executable, "-S", "-W", "error", "-c", code, *argv]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run
