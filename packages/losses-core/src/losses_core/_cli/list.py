"""List the losses of the installed packages; none of them is imported."""

from __future__ import annotations

import argparse
import sys
from fnmatch import fnmatchcase

from losses_core._catalogue import CATALOGUE
from losses_core._cli._output import Output
from losses_core.errors import RegistryError
from losses_core.registry import LOSSES


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pattern", nargs="?", default="*", help="shell wildcards, upper and lower case alike: '*dice*'")
    parser.add_argument("--json", action="store_true", help="print a list of JSON objects")


def run(arguments: argparse.Namespace, out: Output) -> int:
    if not LOSSES:
        known = ", ".join(sorted(set(CATALOGUE.values())))
        raise RegistryError(f"no package with losses is installed. There are {known}, and those of others.")
    pattern = arguments.pattern.lower()
    found = [LOSSES.describe(name) for name in LOSSES if fnmatchcase(name.lower(), pattern)]
    if not found:
        sys.stderr.write(f"losses: no installed loss matches {arguments.pattern!r}\n")
        return 1
    if arguments.json:
        out.json([loss._asdict() for loss in found])
    else:
        rows = [(loss.name, loss.distribution or "-", loss.version or "-") for loss in found]
        out.table(("name", "distribution", "version"), rows)
    return 0
