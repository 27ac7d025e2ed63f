"""The registry, over distributions that are written to a folder for the test."""

import ast
import importlib
import importlib.metadata
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import losses_core
from losses_core import LOSSES, BaseLoss, LossInfo, Registry
from losses_core._installing import how_to_install
from losses_core.errors import (
    AmbiguousLossError,
    LossNotInstalledError,
    RegistryError,
    UnknownLossError,
)
from losses_testkit.fake_distributions import FakeSite, loss_source

from .conftest import GROUP, install
from .small_losses import GapLoss


def test_names_are_known_without_an_import(site: FakeSite, registry: Registry) -> None:
    module = install(site, "acme-seg", "DiceLoss", "LovaszLoss", version="0.3.0")
    assert list(registry) == ["DiceLoss", "LovaszLoss"]
    assert len(registry) == 2
    assert "DiceLoss" in registry
    assert "acme-seg:DiceLoss" in registry
    assert "Acme_Seg:DiceLoss" in registry
    assert "other:DiceLoss" not in registry
    assert "FocalLoss" not in registry
    assert None not in registry
    assert repr(registry) == "Registry('tests', 2 losses)"
    assert registry.describe("DiceLoss") == LossInfo("DiceLoss", f"{module}:DiceLoss", "acme-seg", "0.3.0", False)
    assert module not in sys.modules
    cls = registry["DiceLoss"]
    assert issubclass(cls, BaseLoss)
    assert cls.__module__ == module
    assert registry["DiceLoss"] is registry["acme-seg:DiceLoss"] is cls
    assert registry.describe("acme-seg:DiceLoss") == LossInfo(
        "acme-seg:DiceLoss", f"{module}:DiceLoss", "acme-seg", "0.3.0", True
    )
    assert registry.get("FocalLoss") is None


def test_the_registry_module_imports_no_torch() -> None:
    """Loaded without the package around it, which does import torch."""
    folder = Path(losses_core.__file__).parent
    code = f"""
import sys, types
package = types.ModuleType("losses_core")
package.__path__ = [{str(folder)!r}]
sys.modules["losses_core"] = package
from losses_core.registry import LOSSES
"DiceLoss" in LOSSES, len(LOSSES)
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)
    for name in ("registry", "_scan", "_suggest", "_catalogue", "errors"):
        tree = ast.parse((folder / f"{name}.py").read_text())
        roots = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
        roots |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert {root.partition(".")[0] for root in roots} <= {*sys.stdlib_module_names, "losses_core"}


def test_unknown_name(site: FakeSite, registry: Registry) -> None:
    with pytest.raises(UnknownLossError) as caught:
        registry["DiceLos"]
    assert str(caught.value) == (
        "'DiceLos' is not a registered loss. Did you mean 'DiceLoss'? Installed: no package with losses."
    )
    install(site, "acme-seg", "DiceLoss", version="0.1.0")
    install(site, "acme-cls", "FocalLoss", version="0.1.0")
    registry.refresh()
    with pytest.raises(KeyError) as caught_again:
        registry["DiceLos"]
    assert str(caught_again.value) == (
        "'DiceLos' is not a registered loss. Did you mean 'DiceLoss'? Installed: acme-cls 0.1.0, acme-seg 0.1.0."
    )
    with pytest.raises(UnknownLossError, match=r"^'banana' is not a registered loss\. Installed: acme-cls 0"):
        registry["banana"]
    with pytest.raises(UnknownLossError, match=r"Did you mean 'acme-seg:DiceLoss'\?"):
        registry["acme-seg:DiceLos"]
    with pytest.raises(UnknownLossError, match="expected the name of a loss, a string; got 3"):
        registry[3]  # type: ignore[index]
    with pytest.raises(UnknownLossError, match="is not a registered loss"):
        registry[":DiceLoss"]
    with pytest.raises(UnknownLossError):
        registry.describe("DiceLos")


def test_name_of_a_package_that_is_not_installed(site: FakeSite, registry: Registry) -> None:
    for name in ("DiceLoss", "acme-seg:DiceLoss"):
        with pytest.raises(LossNotInstalledError) as caught:
            registry[name]
        assert (
            str(caught.value)
            == f"{name!r} is provided by acme-seg, which is not installed: {how_to_install('acme-seg')}"
        )
        assert isinstance(caught.value, ImportError)
    with pytest.raises(UnknownLossError, match="is not a registered loss"):
        registry["other:DiceLoss"]


def test_name_that_the_installed_version_lacks(site: FakeSite, registry: Registry) -> None:
    install(site, "acme-seg", "DiceLoss", version="0.1.0")
    with pytest.raises(UnknownLossError) as caught:
        registry["LovaszLoss"]
    assert not isinstance(caught.value, LossNotInstalledError)
    assert str(caught.value) == (
        "'LovaszLoss' is provided by acme-seg, but not by version 0.1.0, which is installed: "
        + how_to_install("acme-seg", upgrade=True)
    )


def test_two_distributions_with_one_name(site: FakeSite, registry: Registry) -> None:
    first = install(site, "acme-seg", "DiceLoss", "LovaszLoss", version="0.1.0")
    second = install(site, "other", "DiceLoss", version="2.0")
    assert list(registry) == ["LovaszLoss", "acme-seg:DiceLoss", "other:DiceLoss"]
    assert len(registry) == 3
    assert "DiceLoss" in registry
    assert registry["LovaszLoss"].__module__ == first
    for ask in (registry.__getitem__, registry.describe):
        with pytest.raises(AmbiguousLossError) as caught:
            ask("DiceLoss")
        for part in (f"acme-seg 0.1.0 ({first}:DiceLoss)", f"other 2.0 ({second}:DiceLoss)", "'acme-seg:DiceLoss'"):
            assert part in str(caught.value)
    assert registry["acme-seg:DiceLoss"].__module__ == first
    assert registry["other:DiceLoss"].__module__ == second
    assert {name: registry[name] for name in registry}  # what is iterated over can be asked for
    assert registry.name_of(registry["other:DiceLoss"]) == "other:DiceLoss"


def test_identical_twins_are_one(site: FakeSite, registry: Registry) -> None:
    module = install(site, "acme-seg", "DiceLoss")
    site.install("acme-seg-nightly", {"DiceLoss": f"{module} : DiceLoss [extra]"}, group=GROUP)
    assert list(registry) == ["DiceLoss"]
    assert registry["DiceLoss"].__module__ == module


def test_the_first_of_two_versions_on_the_path_counts(site: FakeSite, registry: Registry, tmp_path: Path) -> None:
    module = install(site, "acme-seg", "DiceLoss", version="2.0")
    older = FakeSite(tmp_path / "older")
    older.install("Acme.Seg", {"DiceLoss": "elsewhere:DiceLoss", "OldLoss": "elsewhere:OldLoss"}, group=GROUP)
    sys.path.append(str(older.folder))
    try:
        assert list(registry) == ["DiceLoss"]
        assert registry.describe("DiceLoss").target == f"{module}:DiceLoss"
    finally:
        sys.path.remove(str(older.folder))


def test_aliases(site: FakeSite, registry: Registry) -> None:
    module = "fake_alias"
    losses = {"AKDLoss": f"{module}:KnowledgeLoss", "KnowledgeLoss": f"{module}:KnowledgeLoss"}
    site.install("acme", losses, modules={module: loss_source("KnowledgeLoss")}, group=GROUP)
    assert registry["AKDLoss"] is registry["KnowledgeLoss"]
    assert registry.name_of(registry["AKDLoss"]) == "KnowledgeLoss"


def test_the_scan_happens_once(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    distributions = importlib.metadata.distributions

    def slow() -> Any:
        calls.append(1)
        time.sleep(0.1)
        return distributions()

    monkeypatch.setattr(importlib.metadata, "distributions", slow)
    assert not calls
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: len(registry), range(32)))
    assert len(calls) == 1
    registry.refresh()
    assert len(calls) == 1
    assert len(registry) == 0
    assert len(calls) == 2


def test_refresh_finds_what_was_installed_since(
    site: FakeSite, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten = []
    monkeypatch.setattr(importlib, "invalidate_caches", lambda: forgotten.append(1))
    assert "DiceLoss" not in registry
    install(site, "acme-seg", "DiceLoss")
    assert "DiceLoss" not in registry
    registry.refresh()
    assert registry["DiceLoss"]
    registry.refresh()
    assert not registry.describe("DiceLoss").loaded
    assert forgotten == [1, 1]  # of Python's import system, which does not look twice into a folder at once


def test_threads_get_one_class(site: FakeSite, registry: Registry) -> None:
    names = [f"N{i}Loss" for i in range(8)]
    install(site, "acme", *names)
    barrier = threading.Barrier(8)

    def ask(index: int) -> list[type[BaseLoss]]:
        barrier.wait()
        registry.register(GapLoss)
        return [registry[name] for name in names[index:] + names[:index]]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    assert len({cls for classes in found for cls in classes}) == 8
    assert registry["GapLoss"] is GapLoss


def test_a_thread_that_loads_does_not_block_one_that_registers(site: FakeSite, registry: Registry) -> None:
    """The package registers a loss while another thread waits for its import: neither may hold what the other needs."""
    slow = "import time\ntime.sleep(0.2)\nfrom slow_hook import REGISTRY\n" + loss_source("SlowLoss", "HelperLoss")
    site.install("acme-slow", {"SlowLoss": "fake_slow:SlowLoss"}, group=GROUP)
    site.write("fake_slow", slow + "\nREGISTRY.register(HelperLoss)\n")
    site.write("slow_hook", "REGISTRY = None\n")
    import slow_hook  # type: ignore[import-not-found]

    slow_hook.REGISTRY = registry
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: registry["SlowLoss"], range(2), timeout=60))
    assert found[0] is found[1]
    assert "HelperLoss" in registry


def test_first_access_from_many_threads(site: FakeSite) -> None:
    """In a process of its own: what a package imports of itself is imported by no other thread meanwhile."""
    parts = [f"fake_threads.part{i}" for i in range(6)]
    slow = "import time\ntime.sleep(0.02)\n"
    modules = {}
    for i, part in enumerate(parts):  # which import each other in a circle, and need what the package defines late
        source = f"{slow}import {parts[(i + 1) % 6]}\nfrom fake_threads import LATE\n"
        modules[part] = source + loss_source(f"N{i}Loss")
    losses = {f"N{i}Loss": f"{part}:N{i}Loss" for i, part in enumerate(parts)}
    site.install("acme-threads", losses, modules=modules, group=GROUP)
    imports = "".join(f"from {part} import N{i}Loss\n" for i, part in enumerate(parts))
    (site.folder / "fake_threads" / "__init__.py").write_text(f"{slow}LATE = 1\n{imports}")
    for _ in range(3):
        _ask_from_threads(f"sys.path.insert(0, {str(site.folder)!r}); registry = Registry('tests', group={GROUP!r})")


def test_first_access_from_many_threads_to_what_is_installed() -> None:
    _ask_from_threads("registry = LOSSES")


def _ask_from_threads(start: str) -> None:
    code = f"""
import sys, threading
from losses_core import LOSSES, Registry
{start}
names, barrier, errors = list(registry), threading.Barrier(16), []
def ask(index):
    barrier.wait()
    for name in names[index % 6:] + names[:index % 6]:
        try:
            registry[name]
        except BaseException as error:
            errors.append(error)
threads = [threading.Thread(target=ask, args=(index,)) for index in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(60)
assert not errors, errors[0]
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)


def test_a_package_that_asks_for_its_loss_while_it_is_imported(
    site: FakeSite, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an import that the registry knows nothing of, while a thread waits for that import: neither waits for ever."""
    monkeypatch.setattr("losses_core._scan.PATIENCE", 0.3)
    source = "import time, asks_hook\nfrom losses_core import BaseLoss\ntime.sleep(0.3)\n"
    source += loss_source("AskedLoss") + "asks_hook.FOUND = asks_hook.REGISTRY['AskedLoss']\n"
    site.install("acme-asks", {"AskedLoss": "fake_asks:AskedLoss"}, group=GROUP)
    site.write("fake_asks", source)
    site.write("asks_hook", "REGISTRY = FOUND = None\n")
    import asks_hook  # type: ignore[import-not-found]

    asks_hook.REGISTRY = registry
    with ThreadPoolExecutor(2) as pool:
        importing = pool.submit(importlib.import_module, "fake_asks")
        time.sleep(0.1)
        asking = pool.submit(registry.__getitem__, "AskedLoss")
        assert asking.result(60) is importing.result(60).AskedLoss is asks_hook.FOUND


def test_name_of_a_class_that_was_never_asked_for(site: FakeSite, registry: Registry) -> None:
    """Imported by hand, and also where the entry point goes through the package's __init__."""
    site.install(
        "acme",
        {"ALoss": "fake_reexport:ALoss", "BLoss": "fake_reexport.missing:BLoss"},
        modules={"fake_reexport.inner": loss_source("ALoss", "CLoss")},
        group=GROUP,
    )
    (site.folder / "fake_reexport" / "__init__.py").write_text("from fake_reexport.inner import ALoss\n")
    from fake_reexport.inner import ALoss, CLoss  # type: ignore[import-not-found]

    assert registry.name_of(ALoss) == "ALoss"
    with pytest.raises(RegistryError, match=r"fake_reexport\.inner:CLoss is not registered.*@LOSSES\.register"):
        registry.name_of(CLoss)
    with pytest.raises(RegistryError, match="is not registered"):
        registry.name_of(GapLoss)


def test_comparing_imports_nothing(site: FakeSite, registry: Registry) -> None:
    site.install("acme", {"ALoss": "fake_gone:ALoss"}, group=GROUP)
    assert registry == registry
    assert registry != Registry("other", group=GROUP)
    assert len({registry, registry}) == 1


def test_the_registry_of_the_library() -> None:
    assert LOSSES.load_all() == {}
    for name in LOSSES:
        assert LOSSES[LOSSES.name_of(LOSSES[name])] is LOSSES[name]
