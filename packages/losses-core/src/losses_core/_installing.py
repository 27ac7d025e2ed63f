"""How to install another package of this project: from where losses-core itself came."""

from __future__ import annotations

import json
import shlex
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

ON_AN_INDEX = False
"""Whether the packages are published under their names. Until they are, nobody is told to install one by its name: it
would be whatever somebody else has published under that name."""


def how_to_install(name: str, *, upgrade: bool = False) -> str:
    """What to type to install a package of this project.

    Args:
        name: of the distribution, as ``losses-seg``.
        upgrade: whether an older version is installed.
    """
    command = "pip install --upgrade" if upgrade else "pip install"
    if ON_AN_INDEX:
        return f"{command} {name}"
    return f"{command} {_beside(_origin(), name) or f'./packages/{name} in the checkout'}"


def _origin() -> dict[str, Any]:
    """Where losses-core was installed from, as PEP 610 records it; empty where it is not known."""
    try:
        text = distribution("losses-core").read_text("direct_url.json")
    except PackageNotFoundError:
        return {}
    found: dict[str, Any] = json.loads(text or "{}")
    return found


def _beside(origin: dict[str, Any], name: str) -> str | None:
    """What pip calls a package beside losses-core: a folder, a wheel, or a part of a repository."""
    url = origin.get("url", "")
    if "vcs_info" in origin:
        vcs, folder = origin["vcs_info"].get("vcs", "git"), origin.get("subdirectory", "packages/losses-core")
        return f"'{name} @ {vcs}+{url}#subdirectory={folder.removesuffix('losses-core')}{name}'"
    if urlsplit(url).scheme != "file":
        return None
    path = Path(url2pathname(urlsplit(url).path))
    folders = [path.parent / name] if path.is_dir() else sorted(path.parent.glob(f"{name.replace('-', '_')}-*.whl"))
    return next((shlex.quote(str(found)) for found in folders if found.exists()), None)
