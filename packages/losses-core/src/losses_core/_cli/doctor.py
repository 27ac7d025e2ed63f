"""Check the installation: load every loss, and look for clashes, broken packages and files in the way.

After that it lists the kernels: the implementation that runs in place of a definition where it can.

  losses doctor --device cuda
  losses doctor "*Dice*" --device mps

With --device it runs every loss on that device, in float32, and in float64 where the device has it, and compares value
and gradient with those of the definition on the CPU in float64. The inputs are of the kind that the class declares; a
loss without an example is skipped. The deviation of the value is relative to the value, that of the gradient (with
respect to pred and the learnable parameters) is the largest one relative to the largest element. It may be 256 times
the rounding error of the dtype: 3.1e-05 in float32, 5.7e-14 in float64. A larger one, NaN or an error is a fault.

The exit status is 1 for a fault, and 2 if torch does not see the device.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from losses_core._cli import _devices
from losses_core._cli._completion import completed_by
from losses_core._cli._output import Output
from losses_core._cli._pattern import add_pattern, matching
from losses_core.errors import LossLoadError
from losses_core.registry import LOSSES

CORE = ("losses", "losses_core", "torch")
"""What may be shadowed beside the packages that declare losses."""

HEADER = ("loss", "definition", "kernel")


class Installation(NamedTuple):
    """What is installed: versions, number of losses of each distribution, and what is wrong."""

    versions: dict[str, str]
    losses: dict[str, int]
    errors: list[str]
    warnings: list[str]


def configure(parser: argparse.ArgumentParser) -> None:
    add_pattern(parser)
    device = parser.add_argument(
        "--device", type=_devices.device_name, metavar="DEVICE", help=f"run the losses on {', '.join(_devices.KINDS)}"
    )
    completed_by(lambda **_: _devices.KINDS, device)
    parser.add_argument("--strict", action="store_true", help="fail for clashes and shadowed packages too")
    parser.add_argument("--json", action="store_true", help="print a JSON object")


def run(arguments: argparse.Namespace, out: Output) -> int:
    if arguments.device is not None:
        from losses_core._cli._doctor_device import run_on_device

        return run_on_device(arguments, out)
    names = matching(arguments.pattern)
    found = inspect(names)
    status = 1 if found.errors or (arguments.strict and found.warnings) else 0
    kernels = list(registered_kernels(names))
    if arguments.json:
        listed = [dict(zip(HEADER, row, strict=True)) for row in kernels]
        out.json({**found._asdict(), "sound": not status, "kernels": listed})
        return status
    report(found, out)
    if not found.errors and not found.warnings:
        out.line(f"All {len(names)} losses can be loaded.")
    if kernels:
        out.line()
        out.table(HEADER, kernels)
    return status


def inspect(names: list[str]) -> Installation:
    """Load losses, and look at what declares them."""
    errors = [error.text for error in LOSSES.load_all(names).values()]
    found = LOSSES.scan()
    warnings = [
        f"{name!r} is declared by {' and '.join(entry.source for entry in entries)}: "
        f"ask for {' or '.join(repr(entry.qualified) for entry in entries)}."
        for name, entries in found.declared.items()
        if len(entries) > 1
    ]
    declared = [entry for entries in found.declared.values() for entry in entries]
    packages = {entry.target.partition(":")[0].partition(".")[0] for entry in declared}
    versions = {name: _version(name) for name in ("losses-core", "torch")}
    return Installation(
        {"python": platform.python_version(), **versions, **found.distributions},
        {name: sum(entry.distribution == name for entry in declared) for name in found.distributions},
        [*errors, *found.problems],
        [*warnings, *shadowed(packages.union(CORE))],
    )


def report(found: Installation, out: Output) -> None:
    """Print what is installed, and what is wrong."""
    rows = [(name, text, str(found.losses.get(name, ""))) for name, text in found.versions.items()]
    out.table(("package", "version", "losses"), rows)
    out.line()
    for kind, texts in (("error", found.errors), ("warning", found.warnings)):
        for text in texts:
            out.line(f"{kind}: {text}")


def registered_kernels(names: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Loss, name of its definition and kernel, for each loss that can be loaded and has a definition."""
    for name in names:
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
