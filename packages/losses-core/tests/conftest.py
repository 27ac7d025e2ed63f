"""Fixtures of the tests of losses-core."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from losses_core import LOSSES
from losses_testkit.fake_distributions import FakeSite, fake_site

from .small_losses import SMALL_LOSSES


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
    monkeypatch.setattr(LOSSES, "_group", "tests.losses")
    monkeypatch.setattr(LOSSES, "_scan", None)
    monkeypatch.setattr(LOSSES, "_loaded", {})
    monkeypatch.setattr(LOSSES, "_registered", {})
    for cls in SMALL_LOSSES:
        LOSSES.register(cls)
