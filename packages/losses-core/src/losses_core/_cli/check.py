"""Check the config of a loss in a file, without training: every fault with its path."""

from __future__ import annotations

import argparse
import sys

from losses_core._cli._output import Output
from losses_core.builder import find_faults
from losses_core.config import load_config


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="a .yaml, .yml, .json or .toml file")
    parser.add_argument(
        "--key", default="loss", help="where in the file, as train.loss; '' for all of it (default: loss)"
    )


def run(arguments: argparse.Namespace, out: Output) -> int:
    content = load_config(arguments.file, arguments.key or None)
    faults = find_faults(content, arguments.key or "loss")
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    if faults:
        return 1
    out.line(f"{arguments.file}: valid")
    return 0
