"""Check the installation: load every loss, and look for clashes, broken packages and files in the way.

After that it lists the kernels: the implementation that runs in place of a definition where it can.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from losses_core._cli._output import Output
from losses_core.errors import LossLoadError
from losses_core.registry import LOSSES

CORE = ("losses", "losses_core", "torch")
"""What may be shadowed beside the packages that declare losses."""

HEADER = ("loss", "definition", "kernel")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--strict", action="store_true", help="fail for clashes and shadowed packages too")
    parser.add_argument("--json", action="store_true", help="print a JSON object")


def run(arguments: argparse.Namespace, out: Output) -> int:
    errors = [error.text for error in LOSSES.load_all().values()]
    found = LOSSES.scan()
    errors += found.problems
    warnings = [
        f"{name!r} is declared by {' and '.join(entry.source for entry in entries)}: "
        f"ask for {' or '.join(repr(entry.qualified) for entry in entries)}."
        for name, entries in found.declared.items()
        if len(entries) > 1
    ]
    declared = [entry for entries in found.declared.values() for entry in entries]
    packages = {entry.target.partition(":")[0].partition(".")[0] for entry in declared}
    warnings += shadowed(packages.union(CORE))

    versions = {name: _version(name) for name in ("losses-core", "torch")}
    losses = {name: sum(entry.distribution == name for entry in declared) for name in found.distributions}
    versions = {"python": platform.python_version(), **versions, **found.distributions}
    status = 1 if errors or (arguments.strict and warnings) else 0
    kernels = list(registered_kernels())
    if arguments.json:
        listed = [dict(zip(HEADER, row, strict=True)) for row in kernels]
        report = {"versions": versions, "losses": losses, "errors": errors, "warnings": warnings, "sound": not status}
        out.json({**report, "kernels": listed})
        return status
    rows = [(name, text, str(losses.get(name, ""))) for name, text in versions.items()]
    out.table(("package", "version", "losses"), rows)
    out.line()
    for kind, texts in (("error", errors), ("warning", warnings)):
        for text in texts:
            out.line(f"{kind}: {text}")
    if not errors and not warnings:
        out.line(f"All {len(LOSSES)} losses can be loaded.")
    if kernels:
        out.line()
        out.table(HEADER, kernels)
    return status


def registered_kernels() -> Iterator[tuple[str, str, str]]:
    """Loss, name of its definition and kernel, for each loss that can be loaded and has a definition."""
    for name in LOSSES:
        try:
            definition = LOSSES[name]._definition
        except LossLoadError:
            continue
        if definition is not None:
            none = "of the definition it delegates to" if definition.delegates else "none of its own"
            for kernel in dict.fromkeys(kernel.name for kernel in definition.kernels) or (none,):
                yield name, definition.name, kernel


def shadowed(packages: Iterable[str]) -> Iterator[str]:
    """Say which packages are hidden by a file or folder of the same name in the working directory."""
    here = Path.cwd()
    elsewhere = [entry for entry in sys.path if Path(entry).resolve() != here]
    for package in sorted(packages):
        for local in (here / f"{package}.py", here / package / "__init__.py"):
            installed = PathFinder.find_spec(package, elsewhere)
            if local.exists() and installed is not None:
                yield f"{local} has the name of the package in {installed.origin} and may be imported in its place."


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed as a package"
