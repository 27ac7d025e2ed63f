"""The argument PATTERN, and the losses whose names match it."""

from __future__ import annotations

import argparse
from fnmatch import fnmatchcase

from losses_core._cli._completion import completed_by, losses
from losses_core.errors import RegistryError
from losses_core.registry import LOSSES


def add_pattern(parser: argparse.ArgumentParser) -> None:
    argument = parser.add_argument(
        "pattern", nargs="?", default="*", help="shell wildcards, upper and lower case alike: '*dice*' (default: all)"
    )
    completed_by(losses, argument)


def matching(pattern: str) -> list[str]:
    """The names of the losses that match.

    Raises:
        RegistryError: None does.
    """
    found = [name for name in LOSSES if fnmatchcase(name.lower(), pattern.lower())]
    if not found and pattern != "*":
        raise RegistryError(f"no installed loss matches {pattern!r}.")
    return found
