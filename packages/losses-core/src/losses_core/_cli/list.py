"""List the losses of the installed packages; none of them is imported."""

from __future__ import annotations

import argparse
import sys
from fnmatch import fnmatchcase

from losses_core._cli._output import Output
from losses_core.registry import LOSSES


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pattern", nargs="?", default="*", help="shell wildcards, upper and lower case alike: '*dice*'")


def run(arguments: argparse.Namespace, out: Output) -> int:
    pattern = arguments.pattern.lower()
    rows = []
    for name in LOSSES:
        if fnmatchcase(name.lower(), pattern):
            loss = LOSSES.describe(name)
            rows.append((name, loss.distribution or "-", loss.version or "-"))
    if not rows:
        sys.stderr.write(f"losses: no installed loss matches {arguments.pattern!r}\n")
        return 1
    out.table(("name", "distribution", "version"), rows)
    return 0
