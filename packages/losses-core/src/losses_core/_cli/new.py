"""Write a package with a loss of your own: the loss, its entry point, its tests.

What it writes can be installed, and its tests pass. Then put your formula in the place of the squared error: in the
source, in its docstring and in the reference of the tests.

  losses new acme-losses --loss WingLoss
"""

from __future__ import annotations

import argparse
import importlib.util
import keyword
import re
from pathlib import Path

from losses_core._catalogue import CATALOGUE
from losses_core._cli import _templates
from losses_core._cli._output import Output
from losses_core._names import function_name, is_class_name
from losses_core._version import __version__
from losses_core.errors import LossesError
from losses_core.registry import LOSSES


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="of the distribution, as acme-losses")
    parser.add_argument("--loss", default="MyLoss", metavar="CLASS", help="its first loss (default: MyLoss)")
    parser.add_argument(
        "--directory", default=".", metavar="DIR", help="where the folder NAME is made (default: the current one)"
    )


def run(arguments: argparse.Namespace, out: Output) -> int:
    package = _package_of(arguments.name)
    _check_loss(arguments.loss)
    folder = Path(arguments.directory, arguments.name)
    if folder.exists():
        raise LossesError(f"{folder}: exists already; give another name, or another --directory.")
    function = function_name(arguments.loss)
    names = {
        "distribution": arguments.name,
        "package": package,
        "loss": arguments.loss,
        "function": function,
        "oracle": function,
        "core": core_range(__version__),
    }
    for path, text in _templates.PACKAGE.items():
        file = folder / _templates.fill(path, **names)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(_templates.fill(text, **names), encoding="utf-8")
        except OSError as error:
            raise LossesError(f"{file}: cannot be written: {error.strerror}") from error
        out.line(file.as_posix())
    return 0


def _package_of(name: str) -> str:
    """The import name of a distribution."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise LossesError(f"expected a name of small letters and hyphens, as acme-losses; got {name!r}.")
    package = name.replace("-", "_")
    if keyword.iskeyword(package):
        raise LossesError(f"{name}: a keyword of Python cannot be imported; give another name.")
    if importlib.util.find_spec(package) is not None:
        raise LossesError(f"{name}: a module {package} is there already, and would be hidden; give another name.")
    return package


def _check_loss(name: str) -> None:
    if not is_class_name(name):
        raise LossesError(f"--loss: expected the name of a class, as WingLoss; got {name!r}.")
    provider = LOSSES.describe(name).distribution if name in LOSSES else CATALOGUE.get(name)
    if provider is not None:
        raise LossesError(f"--loss: {name} is a loss of {provider} already; give another name.")


def core_range(version: str) -> str:
    """The releases of `losses-core` that may be taken for compatible with this one.

    Example:
        >>> core_range("0.1.0"), core_range("2.3.1")
        ('>=0.1,<0.2', '>=2.3,<3')
    """
    major, minor = (int(part) for part in version.split(".")[:2])
    return f">={major}.{minor},<{major + 1}" if major else f">=0.{minor},<0.{minor + 1}"
