"""Check the config of a loss in a file, without training: every fault with its path.

Faults are printed to standard output, and the exit status is 1.
"""

from __future__ import annotations

import argparse

from losses_core._cli import _config
from losses_core._cli._output import Output
from losses_core.errors import ConfigError


def configure(parser: argparse.ArgumentParser) -> None:
    _config.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the faults as JSON")


def run(arguments: argparse.Namespace, out: Output) -> int:
    try:
        _, faults = _config.read(arguments)
    except ConfigError as error:
        faults = [error]
    if arguments.json:
        listed = [{"path": fault.path, "text": fault.text, "hint": fault.hint} for fault in faults]
        out.json({"file": arguments.file, "valid": not faults, "faults": listed})
    for fault in faults if not arguments.json else ():
        out.line(str(fault))
    if not faults and not arguments.json:
        out.line(f"{arguments.file}: valid")
    return 1 if faults else 0
