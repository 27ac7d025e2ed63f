"""List the losses of the installed packages; none of them is imported.

The task is the one that the keywords of the package name, the description the first paragraph of the docstring.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

from losses_core._catalogue import CATALOGUE
from losses_core._cli._output import Output
from losses_core._cli._pattern import add_pattern, matching
from losses_core._cli._plain import plain
from losses_core._scan import LossInfo
from losses_core._sources import summary_of
from losses_core.errors import RegistryError
from losses_core.registry import LOSSES


class Listed(NamedTuple):
    """What is said of a loss beside its `LossInfo`.

    Attributes:
        task: What it is for, where its package says so.
        description: In one line.
        alias_of: The name of the same class that it is another name of.
    """

    task: str | None
    description: str
    alias_of: str | None


def configure(parser: argparse.ArgumentParser) -> None:
    add_pattern(parser)
    parser.add_argument("--json", action="store_true", help="print a list of JSON objects")


def run(arguments: argparse.Namespace, out: Output) -> int:
    if not LOSSES:
        known = ", ".join(sorted(set(CATALOGUE.values())))
        raise RegistryError(f"no package with losses is installed. There are {known}, and those of others.")
    found = [(loss, described(loss)) for loss in map(LOSSES.describe, matching(arguments.pattern))]
    if arguments.json:
        out.json([loss._asdict() | more._asdict() for loss, more in found])
        return 0
    rows = [
        (
            loss.name,
            more.task or "-",
            loss.distribution or "-",
            loss.version or "-",
            f"alias of {more.alias_of}" if more.alias_of else more.description or "-",
        )
        for loss, more in found
    ]
    header = ("name", "task", "distribution", "version", "description")
    out.table(header, rows, optional=("version", "distribution", "task"))
    return 0


def described(loss: LossInfo) -> Listed:
    """Task, description and first name of a loss, without an import."""
    scan = LOSSES.scan()
    own, _, short = loss.target.partition(":")[2], "", loss.name.rpartition(":")[2]
    entries = scan.declared.get(own, ())
    is_alias = own != short and any(
        entry.target == loss.target and entry.distribution == loss.distribution for entry in entries
    )
    return Listed(scan.tasks.get(loss.distribution or ""), plain(summary_of(loss.target)), own if is_alias else None)
