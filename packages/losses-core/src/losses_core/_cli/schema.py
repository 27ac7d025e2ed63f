"""Print the JSON Schema of the config, for editors: completion, and faults while typing.

Write it to a file once, and again after an install:

  losses schema -o losses.schema.json

and let the first line of a YAML config name it:

  # yaml-language-server: $schema=losses.schema.json

VS Code with its YAML extension, Neovim, Helix and others with yaml-language-server, and JetBrains IDEs read that line.
In a JSON config the key "$schema" does the same.
"""

from __future__ import annotations

import argparse
import sys

from losses_core._cli import _config
from losses_core._cli._output import Output, write
from losses_core.registry import LOSSES


def configure(parser: argparse.ArgumentParser) -> None:
    _config.add_key(parser)
    parser.add_argument("-o", "--output", metavar="FILE", help="write it there instead of to standard output")


def run(arguments: argparse.Namespace, out: Output) -> int:
    from losses_core.schema import config_schema

    for error in LOSSES.load_all().values():
        sys.stderr.write(f"losses: left out: {error.text}\n")
    schema = config_schema(arguments.key or None)
    if arguments.output is None:
        out.json(schema)
    else:
        with write(arguments.output) as stream:
            Output(stream).json(schema)
        out.line(f"{arguments.output}: written")
    return 0
