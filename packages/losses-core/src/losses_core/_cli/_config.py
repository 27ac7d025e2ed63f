"""What the commands that read a config share: the arguments, and the faults."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from losses_core._cli._completion import SUFFIXES, completed_by, configs
from losses_core.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    completed_by(configs, parser.add_argument("file", help=f"a file: {', '.join(SUFFIXES)}"))
    add_key(parser)


def add_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--key", default="loss", help="where in the file, as train.loss; '' for all of it (default: loss)"
    )


def read(arguments: argparse.Namespace) -> tuple[Any, list[ConfigError]]:
    """The config of the file, and its faults."""
    from losses_core.builder import find_faults
    from losses_core.config import read_config

    content = read_config(arguments.file, arguments.key or None, whole_file="--key ''")
    return content, find_faults(content, arguments.key or "loss")


def report(faults: list[ConfigError]) -> None:
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
