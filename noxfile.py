"""The test matrix. Packages are read from packages/*/pyproject.toml, so adding one needs no edit here.

`nox` runs everything but `versions`, `demo`, `parity`, `bench`, `interop`, `generate`, `new-loss`, `release` and `dev`.
What is tested is the wheels that `build` makes, not the source tree.
"""

import os
import shutil
import sys

if sys.version_info < (3, 11):  # before any import that older versions lack
    running = ".".join(map(str, sys.version_info[:3]))
    sys.exit(
        f"This project needs Python 3.11 or newer; nox runs under {running} ({sys.executable}).\n"
        "Install nox with a newer one: pipx install --python 3.11 nox, or python3.11 -m pip install nox."
    )

from pathlib import Path

import nox

sys.path[:0] = [str(Path(folder).resolve()) for folder in ("benchmarks", "tools")]
import versions as tested
from distributions import BY_NAME, DIST, PACKAGES, ROOT, TESTKIT, Distribution, third_party, wheels

from bench.peers import ALSO_NEEDED, WITH_DEPENDENCIES, WITHOUT_DEPENDENCIES

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_external_run = True

# Paths are relative to this file, where nox runs it.
COVERAGE = Path("build", "coverage")

# Both variables are lists split at spaces, which the absolute path of a checkout may hold.
os.environ["PIP_CONSTRAINT"] = os.environ["UV_CONSTRAINT"] = "constraints.txt"
if "PIP_FIND_LINKS" in os.environ:  # uv reads nothing of pip's
    os.environ.setdefault("UV_FIND_LINKS", ",".join(os.environ["PIP_FIND_LINKS"].split()))
os.environ.setdefault("UV_COMPILE_BYTECODE", "1")  # as pip does: many tests start a process that imports torch

TEST_ENV = {"OMP_NUM_THREADS": "1"}  # small tensors: more threads only wait for each other


TEST_SESSIONS = [*(f"tests-{package.short}" for package in PACKAGES), "tests-all"]


def install_peers(session: nox.Session) -> None:
    """The libraries to compare with; what cannot be installed is missing, and counted there."""
    for name in [*WITH_DEPENDENCIES, *ALSO_NEEDED]:
        session.install(name, success_codes=range(3))
    for name in WITHOUT_DEPENDENCIES:
        session.install("--no-deps", name, success_codes=range(3))


NO_TESTS = 5  # pytest's exit status
UNMEASURED = "compile or unmeasured"  # in the name of a test, or its mark


def run_pytest(session: nox.Session, packages: list[Distribution], *runs: list[str]) -> None:
    """Run pytest with each of these arguments, measuring these packages, and keep the data for `coverage`.

    Tests with "compile" in their name, and those marked so, are not measured: coverage doubles the time of Python, of
    which torch's compiler and its check of derivatives are made.
    """
    data = COVERAGE / session.name
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True)
    sources = ",".join(package.module for package in packages)
    env = TEST_ENV | {"COVERAGE_FILE": str(data.resolve() / "data")}
    workers = ["--numprocesses=auto", "--maxprocesses=4", "--dist=worksteal"]
    for run in runs:
        arguments = ["-m", "pytest", *workers, *run, *session.posargs]
        session.run("coverage", "run", f"--source={sources}", *arguments, "-k", f"not ({UNMEASURED})", env=env)
        session.run("python", *arguments, "-k", UNMEASURED, env=TEST_ENV, success_codes=[0, NO_TESTS])


@nox.session
def lint(session: nox.Session) -> None:
    """Style, formatting, and what holds between packages: who may import whom, and what is generated is current."""
    session.install(*ROOT.group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("python", "tools/check_boundaries.py")
    session.run("python", "tools/check_language.py")
    session.run("python", "tools/generate.py", "--check")


@nox.session
def typecheck(session: nox.Session) -> None:
    """mypy --strict on the sources of every package, and on the benchmark."""
    session.install(*third_party(*PACKAGES), *ROOT.group("typecheck"))
    sources = [*(str(package.folder / "src") for package in [*PACKAGES, TESTKIT]), "benchmarks"]
    session.run("mypy", *sources, env={"MYPYPATH": os.pathsep.join(sources)})


@nox.session
def build(session: nox.Session) -> None:
    """An sdist of each distribution, then the wheel from that sdist; then a look into both."""
    session.install(*ROOT.group("build"))
    shutil.rmtree(DIST, ignore_errors=True)
    for distribution in [*PACKAGES, TESTKIT]:
        session.run("python", "-m", "build", "--no-isolation", "--outdir", str(DIST), str(distribution.folder))
    session.run("python", "tools/check_wheels.py", *(str(package.folder) for package in PACKAGES))


for _package in PACKAGES:

    @nox.session(name=f"tests-{_package.short}", requires=["build"])
    def tests(session: nox.Session, package: Distribution = _package) -> None:
        """The tests of one package where only its wheel is installed, and what that declares."""
        session.install(*wheels(package))
        # Before anything else is installed, so that a dependency that is used but not declared shows.
        session.run("python", "-m", "losses_core", "doctor", "--strict", env=TEST_ENV)
        session.install(*wheels(TESTKIT), *ROOT.group("test"), *package.group("test"))
        folder = str(package.folder / "tests")
        run_pytest(session, [package, *package.siblings()], [folder, "--doctest-modules", "--pyargs", package.module])


@nox.session(name="tests-all", requires=["build"])
def tests_all(session: nox.Session) -> None:
    """Everything installed together: what holds between packages, and the core's tests of what is installed."""
    session.install(
        *wheels(*PACKAGES, TESTKIT),
        *ROOT.group("test"),
        *ROOT.group("integration"),
        *(requirement for package in PACKAGES for requirement in package.group("test")),
    )
    core = BY_NAME["losses-core"]
    # Two runs, because both folders are called tests.
    about = ("builder", "cli", "config", "errors", "examples", "hints", "interop", "registry", "schema")
    tests = [str(path) for subject in about for path in sorted(core.folder.glob(f"tests/test_{subject}*.py"))]
    run_pytest(session, PACKAGES, ["tests/integration"], tests)


@nox.session(requires=["build"], default=False)
@nox.parametrize("python,torch", [nox.param(python, torch, id=torch) for torch, python in tested.MATRIX.items()])
def versions(session: nox.Session, torch: str) -> None:
    """The contract on other versions of torch and Python, `-- 2.6.0` for one; writes docs/versions.json."""
    chosen, arguments = tested.chosen(session.posargs)
    if torch not in chosen:
        session.skip(f"not one of {', '.join(chosen)}")
    needed = [*ROOT.group("test"), *(line for package in PACKAGES for line in package.group("test"))]
    env = tested.unpinned(needed, session.create_tmp())
    session.install(*tested.requirement(torch), env=env)
    session.install(*wheels(*PACKAGES, TESTKIT), *needed, env=env)
    session.run("python", "tools/versions.py", *arguments, env=TEST_ENV)


@nox.session(requires=TEST_SESSIONS)
def coverage(session: nox.Session) -> None:
    """At least 95 % of the lines and of the branches of each package, over the data of all test sessions."""
    session.install(*ROOT.group("coverage"))
    session.run("python", "tools/check_coverage.py", str(COVERAGE), *(str(package.folder) for package in PACKAGES))


@nox.session(requires=["build"])
def docs(session: nox.Session) -> None:
    """The documentation in build/docs, where a warning is an error, and every code block of its pages run."""
    session.install(*wheels(*PACKAGES), *ROOT.group("docs"))
    session.run("sphinx-build", "-q", "--fresh-env", "-n", "-W", "--keep-going", "docs", "build/docs", env=TEST_ENV)
    session.run("pytest", "docs", env=TEST_ENV)


@nox.session(requires=["build"], default=False)
def demo(session: nox.Session) -> None:
    """Compare losses on real handwritten digits, each built from a YAML file. `-- --seeds 3` writes the docs' table."""
    session.install(*wheels(*PACKAGES), *ROOT.group("demo"))
    session.chdir("docs/examples")
    session.run("python", "-m", "digits", *session.posargs)


@nox.session(requires=["build"], default=False)
def parity(session: nox.Session) -> None:
    """The losses against those of other libraries. What cannot be installed is skipped, and counted as such."""
    session.install(*wheels(*PACKAGES), "pytest", "scikit-learn")
    # before the torchvision of another release of torch is there, which transformers would import
    session.install("pillow", "scipy", "transformers", "trl", success_codes=range(3))
    first = ["tests/parity/test_detr.py", "tests/parity/test_matching.py"]
    session.run("pytest", *first, "-o", "filterwarnings=default", *session.posargs, env=TEST_ENV)
    install_peers(session)
    others = [f"--ignore={path}" for path in first]
    session.run("pytest", "tests/parity", *others, *session.posargs, env=TEST_ENV)


@nox.session(requires=["build"], default=False)
def bench(session: nox.Session) -> None:
    """Every loss beside those of other libraries: time, cost on an accelerator, extreme inputs; writes docs/comparison.

    What follows `--` goes to the benchmark: `nox -s bench -- --cases "giou*" --eager-only`. Then it measures time alone
    and writes to build/bench.
    """
    session.install(*wheels(*PACKAGES, TESTKIT), *ROOT.group("bench"))
    install_peers(session)
    session.chdir("benchmarks")
    session.run("python", "-m", "bench", *session.posargs)
    if not session.posargs:
        session.run("python", "-m", "bench.accelerator")
        session.run("python", "-m", "bench.edges")


@nox.session(requires=["build"], default=False)
def interop(session: nox.Session) -> None:
    """The losses in other training frameworks, each of which really trains; and the code of the pages about them."""
    session.install(*wheels(*PACKAGES, TESTKIT), *ROOT.group("docs"), *ROOT.group("interop"))
    # the frameworks' own warnings are theirs to mend
    session.run(
        "pytest", "tests/interop", "docs/frameworks", "-o", "filterwarnings=default", *session.posargs, env=TEST_ENV
    )


@nox.session(default=False, venv_backend="none")
def generate(session: nox.Session) -> None:
    """Write what follows from sources and entry points: exports, catalogue, stub, lists. `-- --check` only compares."""
    session.run(sys.executable, "tools/generate.py", *session.posargs, external=True)


@nox.session(name="new-loss", default=False, venv_backend="none")
def new_loss(session: nox.Session) -> None:
    """Write the skeleton of a loss, `-- seg MyLoss`: source, entry point, test case, oracle; then `generate`."""
    session.run(sys.executable, "tools/new_loss.py", *session.posargs, external=True)


@nox.session(default=False)
def release(session: nox.Session) -> None:
    """Prepare a release, `-- losses-seg 0.2.0`: version, changelog, ranges; prints the tag. `-- --tag …` checks one."""
    session.install(*ROOT.group("release"))
    session.run("python", "tools/release.py", *session.posargs)


@nox.session(default=False, venv_backend="none")
def dev(session: nox.Session) -> None:
    """An environment to work in: .venv, with every package editable and all tools."""
    session.run(sys.executable, "-m", "venv", ".venv", external=True)
    python = ".venv/Scripts/python.exe" if os.name == "nt" else ".venv/bin/python"
    editable = [word for distribution in [*PACKAGES, TESTKIT] for word in ("-e", str(distribution.folder))]
    groups = [line for name in ROOT.pyproject["dependency-groups"] for line in ROOT.group(name)]
    groups += [line for package in PACKAGES for line in package.group("test")]
    session.run(python, "-m", "pip", "install", *editable, *groups, external=True)
