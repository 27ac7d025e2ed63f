"""Fixtures of the tests of losses-core."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from losses_core import LOSSES, ConfigError, Registry, build_loss
from losses_core._class_counter import ClassCounter
from losses_core.builder import find_faults
from losses_testkit.fake_distributions import FakeSite, fake_site, loss_source

from .small_losses import SMALL_LOSSES

GROUP = "tests.losses"


def install(
    site: FakeSite, distribution: str, *names: str, version: str = "1.0", module: str = "", group: str = GROUP
) -> str:
    """A distribution whose losses are in one module; the module's name."""
    module = module or f"fake_{distribution.replace('-', '_')}.part"
    site.install(
        distribution,
        {name: f"{module}:{name}" for name in names},
        version=version,
        modules={module: loss_source(*names)},
        group=group,
    )
    return module


@pytest.fixture
def registry() -> Registry:
    """A registry of its own group, which finds only what a test installs."""
    return Registry("tests", group=GROUP, catalogue={"DiceLoss": "acme-seg", "LovaszLoss": "acme-seg"})


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FakeSite]:
    """An empty folder on sys.path to install fake distributions in."""
    folder = tmp_path / "site"
    folder.mkdir()
    with fake_site(folder) as found:
        yield found


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> None:
    """`LOSSES` with the small losses and nothing else, whatever is installed."""
    monkeypatch.setattr(LOSSES, "_group", GROUP)
    monkeypatch.setattr(LOSSES, "_scan", None)
    monkeypatch.setattr(LOSSES, "_loaded", {})
    monkeypatch.setattr(LOSSES, "_registered", {})
    for cls in SMALL_LOSSES:
        LOSSES.register(cls)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Blocks of at most 64 labels; the sizes of those that were counted."""
    sizes: list[int] = []
    add = ClassCounter.add

    def recorded(self: ClassCounter, labels: Any, *others: Any) -> None:
        sizes.append(labels.numel())
        add(self, labels, *others)

    monkeypatch.setattr("losses_core._class_counter.BLOCK", 64)
    monkeypatch.setattr(ClassCounter, "add", recorded)
    return sizes


def only_fault(config: Any) -> str:
    """The text of the one fault of a config, which `build_loss` raises."""
    faults = find_faults(config)
    assert len(faults) == 1, faults
    with pytest.raises(ConfigError) as caught:
        build_loss(config)
    assert str(caught.value) == str(faults[0])
    assert type(caught.value) is type(faults[0])
    return str(faults[0])
