"""The command line. A command is a module of this package: `configure` adds its arguments, `run` does it.

A new command is a new file and its name in `COMMANDS`.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
import warnings
from collections.abc import Sequence

from losses_core._cli._completion import complete
from losses_core._cli._output import Output, UsageError
from losses_core._version import __version__
from losses_core.errors import LossesError

COMMANDS = ("list", "show", "check", "schema", "probe", "plot", "weights", "doctor", "new")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: What follows the program's name; by default what the process was given.

    Returns:
        The exit status: 0 when all is well, 1 for a fault that was found, 2 for arguments that make no sense.
    """
    parser = make_parser()
    complete(parser)
    given = parser.parse_args(arguments)
    with warnings.catch_warnings():
        # of torch, where NumPy is not installed: no command hands an array to torch without it
        warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
        return _run(given)


def _run(given: argparse.Namespace) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a formula in a terminal without Greek letters
    try:
        status: int = given.run(given, Output(sys.stdout))
        sys.stdout.flush()
        return status
    except LossesError as error:
        sys.stderr.write(f"losses: {error}\n")
        return 2 if isinstance(error, UsageError) else 1
    except BrokenPipeError:  # `losses list | head -1`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; it needs no torch."""
    parser = argparse.ArgumentParser("losses", description="Training losses for PyTorch.")
    parser.add_argument("--version", action="version", version=f"losses-core {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = importlib.import_module(f"{__name__}.{name}")
        summary, _, more = str(module.__doc__).partition("\n")
        command = commands.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=more.strip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.configure(command)
        command.set_defaults(run=module.run)
    return parser
