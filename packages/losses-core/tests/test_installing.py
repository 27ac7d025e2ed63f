"""What the hints tell people to install: never a name that somebody else may own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from losses_core import _installing
from losses_core._installing import how_to_install


@pytest.fixture
def came_from(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set what the metadata of losses-core says of its origin."""

    class Metadata:
        def __init__(self, origin: dict[str, Any] | None) -> None:
            self.origin = origin

        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return None if self.origin is None else json.dumps(self.origin)

    def set_origin(origin: dict[str, Any] | None) -> None:
        monkeypatch.setattr(_installing, "distribution", lambda name: Metadata(origin))

    return set_origin


def test_from_a_checkout(came_from: Any, tmp_path: Path) -> None:
    for name in ("losses-core", "losses-seg"):
        (tmp_path / "with space" / name).mkdir(parents=True)
    origin = tmp_path / "with space" / "losses-core"
    came_from({"url": origin.as_uri(), "dir_info": {"editable": True}})
    assert how_to_install("losses-seg") == f"pip install '{origin.parent / 'losses-seg'}'"
    assert how_to_install("losses-det") == "pip install ./packages/losses-det in the checkout"


def test_from_wheels(came_from: Any, tmp_path: Path) -> None:
    for name in ("losses_core", "losses_seg"):
        (tmp_path / f"{name}-0.1.0-py3-none-any.whl").touch()
    came_from({"url": (tmp_path / "losses_core-0.1.0-py3-none-any.whl").as_uri(), "archive_info": {}})
    wheel = tmp_path / "losses_seg-0.1.0-py3-none-any.whl"
    assert how_to_install("losses-seg", upgrade=True) == f"pip install --upgrade {wheel}"


def test_from_a_repository(came_from: Any) -> None:
    origin = {"url": "https://example.org/losses", "vcs_info": {"vcs": "git", "commit_id": "abc"}}
    came_from(origin | {"subdirectory": "packages/losses-core"})
    expected = "'losses-seg @ git+https://example.org/losses#subdirectory=packages/losses-seg'"
    assert how_to_install("losses-seg") == f"pip install {expected}"


def test_from_elsewhere(came_from: Any) -> None:
    came_from(None)
    assert how_to_install("losses-seg") == "pip install ./packages/losses-seg in the checkout"
    came_from({"url": "https://example.org/losses_core.whl", "archive_info": {}})
    assert how_to_install("losses-seg") == "pip install ./packages/losses-seg in the checkout"


def test_once_published_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_installing, "ON_AN_INDEX", True)
    assert how_to_install("losses-seg") == "pip install losses-seg"
