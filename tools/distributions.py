"""A distribution of this repository as the sessions of nox see it: what it declares, and its wheel."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nox

DIST = Path("dist")
"""Where wheels are built; paths are relative to the noxfile, where nox runs it."""


@dataclass(frozen=True)
class Distribution:
    """One folder with a pyproject.toml."""

    folder: Path

    @cached_property
    def pyproject(self) -> dict[str, Any]:
        return nox.project.load_toml(self.folder / "pyproject.toml")

    @property
    def name(self) -> str:
        return str(self.pyproject["project"]["name"])

    @property
    def module(self) -> str:
        return self.name.replace("-", "_")

    @property
    def short(self) -> str:
        return self.name.removeprefix("losses-")

    @property
    def requirements(self) -> list[str]:
        return list(self.pyproject["project"].get("dependencies", []))

    @property
    def extras(self) -> list[str]:
        return [line for lines in self.pyproject["project"].get("optional-dependencies", {}).values() for line in lines]

    def group(self, name: str) -> list[str]:
        """The requirements of a dependency group, none if the distribution has no such group."""
        declared = name in self.pyproject.get("dependency-groups", {})
        return list(nox.project.dependency_groups(self.pyproject, name)) if declared else []

    @property
    def wheel(self) -> str:
        (wheel,) = DIST.glob(f"{self.module}-*.whl")
        return str(wheel)

    def siblings(self) -> "Iterator[Distribution]":
        """The distributions of this repository that this one depends on, directly or not."""
        for requirement in self.requirements:
            sibling = BY_NAME.get(re.split(r"[^\w.-]", requirement, maxsplit=1)[0])
            if sibling:
                yield sibling
                yield from sibling.siblings()


ROOT = Distribution(Path())
PACKAGES = [Distribution(path.parent) for path in sorted(Path("packages").glob("*/pyproject.toml"))]
TESTKIT = Distribution(Path("tests", "testkit"))
BY_NAME = {package.name: package for package in PACKAGES}


def wheels(*distributions: Distribution) -> list[str]:
    """Their wheels and those of the siblings they need, for one command: a sibling is never looked up in an index."""
    needed = {d.name: d for top in distributions for d in (top, *top.siblings())}
    return [d.wheel for d in needed.values()]


def third_party(*distributions: Distribution) -> list[str]:
    """What they declare besides each other, extras included, for sessions that read the sources."""
    declared = dict.fromkeys(line for d in distributions for line in (*d.requirements, *d.extras))
    return [line for line in declared if not line.startswith("losses")]
