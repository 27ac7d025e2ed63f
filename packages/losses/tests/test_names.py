"""What the names of the package are: the core's, every loss, and an answer to every other."""

import ast
import pickle
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import losses
import losses_core
from losses_core import LOSSES, BaseLoss, LossLoadError, LossNotInstalledError, UnknownLossError
from losses_core._installing import how_to_install
from losses_testkit.fake_distributions import FakeSite

from .conftest import GROUP, Install

pytestmark = pytest.mark.usefixtures("site")

MODULES = {"base_loss", "builder", "utils"}


def imported(name: str) -> Any:
    """What `from losses import name` gives."""
    namespace: dict[str, Any] = {}
    exec(f"from losses import {name}", namespace)
    return namespace[name]


def registry_text(name: str) -> str:
    with pytest.raises(UnknownLossError) as caught:
        LOSSES[name]
    return str(caught.value)


def test_core_is_there() -> None:
    assert set(losses.__all__) == MODULES.union(losses_core.__all__)
    for name in set(losses_core.__all__) - {"__version__"}:
        assert vars(losses)[name] is getattr(losses_core, name)  # bound, not looked up


def test_version() -> None:
    assert losses.__version__ == version("losses")


def test_star_import(install: Install) -> None:
    install("losses-seg", "DiceLoss")
    namespace: dict[str, Any] = {}
    exec("from losses import *", namespace)
    assert set(namespace) - {"__builtins__"} == set(losses.__all__)
    assert "losses_seg" not in sys.modules


def test_losses_are_forwarded(install: Install) -> None:
    install("losses-seg", "DiceLoss")
    install("acme-losses", "GapLoss")
    assert {"losses_seg.part", "acme_losses.part"}.isdisjoint(sys.modules)
    assert imported("DiceLoss") is LOSSES["DiceLoss"] is sys.modules["losses_seg.part"].DiceLoss
    assert "acme_losses.part" not in sys.modules
    assert losses.GapLoss is LOSSES["GapLoss"]  # type: ignore[attr-defined]  # of another project: known at run time


def test_registered_losses_are_forwarded() -> None:
    class First(BaseLoss):
        def _forward(self, pred: Any, target: Any) -> Any:
            return pred - target

    class Second(First):
        pass

    LOSSES.register(First, name="OwnLoss")
    assert imported("OwnLoss") is First
    LOSSES.register(Second, name="OwnLoss", replace=True)
    assert imported("OwnLoss") is Second
    LOSSES.register(Second, name="own_loss")
    assert getattr(losses, "own_loss") is Second  # noqa: B009  # mypy knows no such attribute


def test_unknown_name(install: Install) -> None:
    install("losses-cls", "FocalLoss", version="0.1.0")
    text = "'FocalLos' is not a registered loss. Did you mean 'FocalLoss'? Installed: losses-cls 0.1.0."
    assert registry_text("FocalLos") == text
    for ask in (imported, losses.__getattr__, lambda name: getattr(losses, name)):
        with pytest.raises(ImportError) as caught:
            ask("FocalLos")
        assert str(caught.value) == text
        assert caught.value.name == "losses"
        assert caught.value.__context__ is None  # one text, no chain of errors


@pytest.mark.parametrize(
    ("name", "near"), [("BaseLos", "BaseLoss"), ("build_los", "build_loss"), ("segmentaton", "segmentation")]
)
def test_name_that_is_nearly_there(name: str, near: str) -> None:
    with pytest.raises(ImportError) as caught:
        imported(name)
    assert str(caught.value) == f"{registry_text(name)} The package itself has {near!r}."


def test_names_that_tools_ask_for() -> None:
    """Pickle, pytest and others read names in every module, and take AttributeError for "no"."""
    for name in ("setup_module", "pytest_plugins", "load_tests", "expit"):
        assert not hasattr(losses, name)
        with pytest.raises(ImportError, match=f"{name!r} is not a registered loss"):
            imported(name)
    with pytest.raises(AttributeError, match="The package itself has 'build_loss'"):
        losses.build_los  # type: ignore[attr-defined]  # noqa: B018  # the point of the test


def test_pickle_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that knows no module, as SciPy's, is looked for in every module, this package among them."""

    class Function:
        __module__ = None  # type: ignore[assignment]

        def __reduce__(self) -> str:
            return "expit"

    function = Function()
    home = ModuleType("tests_home")
    monkeypatch.setattr(home, "expit", function, raising=False)
    monkeypatch.setitem(sys.modules, "tests_home", home)
    assert list(sys.modules).index("losses") < list(sys.modules).index("tests_home")
    assert pickle.loads(pickle.dumps(function)) is function


def test_private_names(install: Install) -> None:
    LOSSES.register(type("_Hidden", (BaseLoss,), {"_forward": lambda self, pred, target: pred}))
    for name in ("_Hidden", "_nothing", "__path_to_nothing__"):
        with pytest.raises(AttributeError, match=f"module 'losses' has no attribute '{name}'"):
            getattr(losses, name)
        with pytest.raises(ImportError, match="cannot import name"):
            imported(name)


def test_package_not_installed(install: Install) -> None:
    install("losses-cls", "FocalLoss")
    text = f"'DiceLoss' is provided by losses-seg, which is not installed: {how_to_install('losses-seg')}"
    for ask in (imported, lambda name: getattr(losses, name)):
        with pytest.raises(LossNotInstalledError) as caught:
            ask("DiceLoss")
        assert isinstance(caught.value, ImportError)
        assert str(caught.value) == text


def test_broken_package(site: FakeSite) -> None:
    site.install("losses-seg", {"DiceLoss": "losses_seg.gone:DiceLoss"}, group=GROUP)
    LOSSES.refresh()
    with pytest.raises(
        LossLoadError, match=r"declared by losses-seg 1\.0 as losses_seg\.gone:DiceLoss but could not be"
    ):
        imported("DiceLoss")


def test_name_of_two_packages(install: Install) -> None:
    install("losses-seg", "DiceLoss")
    install("acme-losses", "DiceLoss")
    with pytest.raises(ImportError, match="Say which one is meant: 'acme-losses:DiceLoss' or 'losses-seg:DiceLoss'"):
        imported("DiceLoss")
    assert not [name for name in dir(losses) if "DiceLoss" in name]


def test_dir(install: Install) -> None:
    assert dir(losses) == sorted(losses.__all__)
    install("losses-seg", "DiceLoss", "LovaszLoss")
    install("acme-losses", "GapLoss")
    assert set(dir(losses)) == {*losses.__all__, "DiceLoss", "GapLoss", "LovaszLoss", "segmentation"}
    assert {"losses_seg", "acme_losses"}.isdisjoint(sys.modules)


def test_stub_has_the_exports() -> None:
    stub = ast.parse(Path(losses.__file__).with_name("__init__.pyi").read_text(encoding="utf-8"))
    origins: dict[str, str | None] = {}
    for node in stub.body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                assert alias.asname == alias.name  # else it would be private
                origins[alias.name] = node.module
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            assert ast.literal_eval(node.value) == losses.__all__
    assert {name for name, module in origins.items() if module == "losses_core"} == {
        name for name in losses_core.__all__ if name != "__version__"
    }
    assert {name for name, module in origins.items() if module == "losses"} > MODULES
