"""Distributions as an installer leaves them, a dist-info folder and modules, to test what can be wrong with one."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

GROUP = "losses_core.losses"


class FakeSite:
    """A folder to install fake distributions in, as a site-packages folder.

    Args:
        folder: Where; it must be on `sys.path` for the distributions to be found.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(
        self,
        distribution: str,
        losses: Mapping[str, str] | None = None,
        *,
        version: str = "1.0",
        modules: Mapping[str, str] | None = None,
        group: str = GROUP,
        metadata: str | None = None,
        entry_points: str | None = None,
    ) -> Path:
        """Write a distribution.

        Args:
            distribution: Its name.
            losses: Name → `module:Class`, its entry points.
            version: Its version.
            modules: Module → source, for those that it holds: dots make folders.
            group: The group of the entry points.
            metadata: Text of its METADATA instead of the right one.
            entry_points: Text of its entry_points.txt instead of the one that `losses` gives.

        Returns:
            Its dist-info folder.
        """
        info = self.folder / f"{re.sub(r'[-_.]+', '_', distribution)}-{version}.dist-info"
        info.mkdir(parents=True)
        if metadata is None:
            metadata = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        if entry_points is None:
            entry_points = "".join(f"{name} = {target}\n" for name, target in (losses or {}).items())
            entry_points = f"[{group}]\n{entry_points}"
        (info / "METADATA").write_text(metadata, encoding="utf-8")
        (info / "entry_points.txt").write_text(entry_points, encoding="utf-8")
        for module, source in (modules or {}).items():
            self.write(module, source)
        return info

    def write(self, module: str, source: str) -> Path:
        """Write a module, with the packages that it is in."""
        path = self.folder.joinpath(*module.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        for package in path.relative_to(self.folder).parents[:-1]:
            (self.folder / package / "__init__.py").touch()
        path.write_text(source, encoding="utf-8")
        return path


def loss_source(*names: str) -> str:
    """The source of a module that defines losses with these names: the absolute difference."""
    body = "    def _forward(self, pred, target):\n        return (pred - target).abs()\n"
    return "from losses_core import BaseLoss\n\n" + "\n".join(f"class {name}(BaseLoss):\n{body}" for name in names)


@contextmanager
def fake_site(folder: Path) -> Iterator[FakeSite]:
    """A `FakeSite` on `sys.path`; at the end it is taken off, and what was imported from it is forgotten."""
    import importlib

    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield FakeSite(folder)
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
                del sys.modules[name]
        importlib.invalidate_caches()
