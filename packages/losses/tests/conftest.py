"""Fixtures of the tests of losses: the facade over packages that a test makes up, whatever else is installed."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import losses
from losses._tasks import TASKS
from losses_core import LOSSES
from losses_testkit.fake_distributions import FakeSite, fake_site, loss_source

GROUP = "tests.losses"

Install = Callable[..., None]


def pytest_configure(config: pytest.Config) -> None:
    # The modules of the tasks cannot be imported where the packages are not installed. They have no doctests.
    config.option.doctest_ignore_import_errors = True


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSite]:
    """An empty folder on sys.path to install fake distributions in; no package of a task is installed but there."""
    folder = tmp_path / "site"
    folder.mkdir()
    fresh: dict[str, Any] = {"_group": GROUP, "_scan": None, "_loaded": {}, "_registered": {}}
    for name, value in fresh.items():
        monkeypatch.setattr(LOSSES, name, value)
    with monkeypatch.context() as context, fake_site(folder) as found:
        for task, distribution in TASKS.items():
            package = distribution.replace("-", "_")
            context.delitem(vars(losses), task, raising=False)
            context.delitem(sys.modules, f"losses.{task}", raising=False)
            for name in [name for name in sys.modules if name.partition(".")[0] == package]:
                context.delitem(sys.modules, name)
            context.setitem(sys.modules, package, None)  # the mark of what cannot be imported
        yield found
        for task in TASKS:
            vars(losses).pop(task, None)
            sys.modules.pop(f"losses.{task}", None)


@pytest.fixture
def install(site: FakeSite) -> Install:
    """`install(distribution, *names)`: a package with these losses, as the ones of the tasks are made."""

    def install(distribution: str, *names: str, functional: str = "", version: str = "1.0") -> None:
        package = distribution.replace("-", "_")
        site.install(distribution, {name: f"{package}.part:{name}" for name in names}, version=version, group=GROUP)
        site.write(f"{package}.part", loss_source(*names))
        site.write(f"{package}.functional", functional)
        exports = f"from {package} import functional\nfrom {package}.part import {', '.join(names)}\n"
        (site.folder / package / "__init__.py").write_text(f"{exports}__all__ = {[*names, 'functional']}\n")
        sys.modules.pop(package, None)
        LOSSES.refresh()

    return install
