"""Adding a loss touches four places: what is generated from them, and the skeleton that writes them."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import generate
import generate_docs
import generate_exports
import generate_specification
import new_loss
import pytest
from repository import Package, losses, plugins

from losses_core import BaseLoss, examples

NAME = "ProbeErrorLoss"
PLACES = (
    "packages/losses-seg/src/losses_seg/probe_error_loss.py",
    "packages/losses-seg/pyproject.toml",
    "packages/losses-seg/tests/cases.py",
    "packages/losses-seg/tests/oracles.py",
)
CONTRACT = "value_equals or derivative or half_precision or weight or config or documentation or meta or every_loss"
COPIED = (
    *("packages", "tests", "tools", "docs/losses", "docs/install.md", "docs/versions.json", "README.md"),
    "pyproject.toml",
)


@pytest.fixture(scope="module")
def repository(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this repository, with everything generated."""
    copy = tmp_path_factory.mktemp("repository")
    for name in COPIED:
        if (root / name).is_dir():
            shutil.copytree(root / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", ".*", "dist"))
        else:
            shutil.copy(root / name, copy / name)
    generate.main([], copy)
    return copy


@pytest.fixture(scope="module")
def extended(repository: Path) -> tuple[Path, list[str]]:
    """The copy with a new loss, and what the tool wrote."""
    command = [sys.executable, "tools/new_loss.py", "seg", NAME]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return repository, [line.removesuffix(": written") for line in done.stdout.splitlines() if "written" in line]


def test_four_places_and_what_follows(extended: tuple[Path, list[str]]) -> None:
    repository, written = extended
    assert set(written) == {
        *PLACES,
        "packages/losses-seg/src/losses_seg/__init__.py",
        "packages/losses-seg/src/losses_seg/functional.py",
        "packages/losses-core/src/losses_core/_catalogue.py",
        "packages/losses/src/losses/__init__.pyi",
        "docs/losses/segmentation/index.md",
        "docs/losses/segmentation/probe_error_loss.md",
        "README.md",
        "tests/integration/specification.toml",
    }
    assert generate.main(["--check"], repository) == 0
    assert f"| `{NAME}` | Squared error times a scale |" in (repository / "README.md").read_text()


def test_the_skeleton_is_formatted(extended: tuple[Path, list[str]]) -> None:
    repository, written = extended
    sources = [path for path in written if path.endswith((".py", ".pyi"))]
    for command in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", *sources]
        done = subprocess.run(ruff, cwd=repository, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_skeleton_passes_the_contract(extended: tuple[Path, list[str]], tmp_path: Path) -> None:
    """Some tests of the contract, the specification and the doctest, on the wheel that the copy gives."""
    repository, _ = extended
    package = repository / "packages" / "losses-seg"
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=package, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("COVERAGE", "PYTEST"))}
    env["PYTHONPATH"] = os.pathsep.join([str(tmp_path / "installed"), os.environ.get("PYTHONPATH", "")])
    contract = [str(package / "tests" / "test_contract.py"), "-k", f"({CONTRACT}) and ({NAME} or every_loss)"]
    specification = [str(repository / "tests" / "integration" / "test_specification.py"), "-k", f"{NAME} or losses-seg"]
    doctest = ["--doctest-modules", str(tmp_path / "installed" / "losses_seg" / "probe_error_loss.py")]
    for arguments in (contract, specification, doctest):
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
        done = subprocess.run(
            command, cwd=repository, env=env, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
        assert " passed" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("sound", NAME), "no package 'sound'; there are cls, det, distill, seg"),
        (("seg", "probe_loss"), "expected the name of a class, as MyLoss; got 'probe_loss'"),
        (("seg", "FocalLoss"), "losses-cls declares FocalLoss already"),
        (("seg", "DICELoss"), "dice_loss.py exists already"),
    ],
)
def test_names_that_are_taken(
    repository: Path, arguments: tuple[str, str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert new_loss.main(arguments, repository) == 1
    assert text in capsys.readouterr().err


def test_a_name_without_loss_at_its_end(repository: Path) -> None:
    package = new_loss.chosen(repository, "seg")
    assert package.source / "rand_index_loss.py" in new_loss.skeleton(repository, package, "RandIndex")


# ---------------------------------------------------------------------------------------------------------- generators

FILES = {
    "pyproject.toml": """[project]
name = "losses-red"
[project.entry-points."losses_core.losses"]
ALoss = "losses_red.a:ALoss"
Alpha = "losses_red.a:ALoss"
BLoss = "losses_red.many:BLoss"
""",
    "src/losses_red/__init__.py": '"""Red."""\n\nfrom losses_red import functional\n',
    "src/losses_red/functional.py": '"""Functions."""\n\nfrom losses_red._help import help_all\n',
    "src/losses_red/_kernels/__init__.py": "",
    "src/losses_red/a.py": """
from losses_red._base import Base
class ALoss(Base):
    '''A :math:`x|y` loss.'''
    function = cross_a
class Helper: ...
def cross_a(): ...
def a_loss(): ...
def helper(): ...
def _a_loss(): ...
""",
    "src/losses_red/_base.py": """
class Base(BaseLoss):
    def __init__(self, p, q=2, *, r=None, s=END, reduction="sum"): ...
""",
    "src/losses_red/many/__init__.py": '"""Many."""\n',
    "src/losses_red/many/_one.py": "def hidden_loss(): ...",
    "src/losses_red/many/two.py": "__all__ = ['BLoss', 'b_map']\nclass BLoss: ...\ndef b_map(): ...\ndef b_loss(): ...",
}


@pytest.fixture
def red(tmp_path: Path) -> Package:
    """A package with a loss in a module and one in a folder."""
    for name, text in FILES.items():
        file = tmp_path / "packages" / "losses-red" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (package,) = plugins(tmp_path)
    return package


def body(text: str) -> list[str]:
    return text.splitlines()[3:]


def test_exports(red: Package) -> None:
    made = {str(path.relative_to(red.source)): text for path, text in generate_exports.exports(red).items()}
    assert body(made["many/__init__.py"]) == [
        "from losses_red.many.two import BLoss, b_map",
        "",
        '__all__ = ["BLoss", "b_map"]',
    ]
    assert body(made["functional.py"]) == [
        "from losses_red._help import help_all",
        "from losses_red.a import a_loss, cross_a",
        "from losses_red.many import b_map",
        "",
        '__all__ = ["a_loss", "b_map", "cross_a", "help_all"]',
    ]
    assert body(made["__init__.py"]) == [
        "from losses_red import _kernels as _kernels",
        "from losses_red import functional",
        "from losses_red.a import ALoss",
        "from losses_red.many import BLoss",
        "",
        '__all__ = ["ALoss", "BLoss", "functional"]',
    ]
    for name, text in made.items():
        assert text.startswith(FILES[f"src/losses_red/{name}"].partition("\n")[0])
        (red.source / name).write_text(text)
    assert generate_exports.exports(red) == {red.source / name: text for name, text in made.items()}


def test_code_in_a_generated_module_is_not_lost(red: Package) -> None:
    (red.source / "functional.py").write_text('"""Functions."""\n\ndef a(): ...\n')
    with pytest.raises(SystemExit, match=r"functional\.py:3: a generated module holds"):
        generate_exports.exports(red)


def test_specification(red: Package) -> None:
    root = red.folder.parents[1]
    path = root / "tests" / "integration" / "specification.toml"
    path.parent.mkdir(parents=True)
    old = '[options]\nreduction = "mean"\n[losses.BLoss]\ndistribution = "losses-red"\ndefaults = { q = 9 }\n'
    path.write_text(f'{old}\n[utilities]\na = ["b"]\n')
    (text,) = generate_specification.files(root).values()
    table = tomllib.loads(text)
    assert text.startswith(old)
    assert table["utilities"] == {"a": ["b"]}
    assert table["losses"]["ALoss"] == {
        "distribution": "losses-red",
        "target": "losses_red.a",
        "defaults": {"q": 2, "r": "none", "reduction": "sum"},
        "aliases": ["Alpha"],
    }


def test_docs(red: Package) -> None:
    root = red.folder.parents[1]
    folder = root / "docs" / "losses" / "colours"
    folder.mkdir(parents=True)
    (folder / "index.md").write_text("# Red\n\n```{losses} losses-red\n```\n\n```{toctree}\n:hidden:\n\nmany\n```\n")
    (folder / "many.md").write_text("# Many\n\nB.\n\n```{loss} BLoss\n```\n")
    (folder / "unlisted.md").write_text("# Unlisted\n")  # written by hand, and not in the toctree yet
    (root / "README.md").write_text("# R\n<!-- losses: written by nox -s generate -->\n<!-- end of losses -->\nend\n")
    made = generate_docs.files(root)
    assert "\n\nmany\nunlisted\na\n```\n" in made[folder / "index.md"]
    assert made[folder / "unlisted.md"] == "# Unlisted\n"
    assert made[folder / "many.md"] == (folder / "many.md").read_text()
    assert made[folder / "a.md"] == "# A\n\n```{loss} ALoss\n```\n"
    rows = [line for line in made[root / "README.md"].splitlines() if line.startswith("| `")]
    assert rows == ["| `BLoss` |  |", r"| `ALoss` | A $x\|y$ loss; also named `Alpha` |"]
    assert made[root / "README.md"].endswith("<!-- end of losses -->\nend\n")


def test_a_class_that_is_not_there(red: Package) -> None:
    (red.source / "a.py").write_text("")
    with pytest.raises(SystemExit, match=r"declares losses_red\.a:ALoss, which is not there"):
        losses(red)[0].summary  # noqa: B018  # it is looked up when asked for


def test_the_gallery_falls_back_on_the_example(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(root / "docs")
    from gallery.drawing import evaluate
    from gallery.table import from_example

    class SquareLoss(BaseLoss):
        example = examples.BINARY

        def _forward(self, pred: Any, target: Any) -> Any:
            return (pred - target).square()

    class BareLoss(SquareLoss):
        example = None

    plot = from_example(SquareLoss)
    assert plot is not None
    for label, x, value, gradient in evaluate(SquareLoss, plot):
        target = float(label.removeprefix("target "))
        assert value.tolist() == pytest.approx((x - target).square().tolist())
        assert gradient.tolist() == pytest.approx((2 * (x - target)).tolist())
    assert from_example(BareLoss) is None
