"""What a name of the package `losses` stands for when no import statement has bound it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from importlib import import_module

from losses._tasks import TASKS, installed_tasks
from losses_core import LOSSES, RegistryError


def look_up(name: str, *, here: Iterable[str], importing: bool) -> object:
    """The sub-module of a task, or the loss that `LOSSES` knows under a name.

    Args:
        name: What was asked for.
        here: The names that the package has besides the losses, for the hint.
        importing: Whether an import statement asks (`from losses import name`), not an attribute access.

    Raises:
        ImportError: No installed package has a loss of this name; the text is the registry's.
        AttributeError: The name starts with an underscore; or with a small letter, where an attribute is read. Tools
            look for such names in every module (pickle for the home of a function, pytest for `setup_module`) and are
            prepared for this error only.
    """
    if name in TASKS:
        return import_module(f"losses.{name}")
    if name.startswith("_"):
        raise AttributeError(f"module 'losses' has no attribute {name!r}")
    try:
        return LOSSES[name]
    except ImportError:  # the package is not installed, or broken: the registry says which
        raise
    except RegistryError as error:
        text = error.text
    # Of the losses the registry has already named the nearest.
    if near := difflib.get_close_matches(name, [*here, *TASKS], n=1, cutoff=0.8):
        text = f"{text} The package itself has {near[0]!r}."
    if name[:1].islower() and not importing:
        raise AttributeError(text)
    raise ImportError(text, name="losses")


def listed(here: Iterable[str]) -> list[str]:
    """All names for `dir`: those in `here`, the tasks that can be imported, and every loss."""
    losses = {name for name in LOSSES if name.isidentifier()}  # of a name that two packages claim, only qualified forms
    return sorted(losses.union(here, installed_tasks()))
