"""The tasks: each module here is one, named like its YAML file, and has a function `build() -> Task`."""

import importlib
import pkgutil

from ..training import Task


def names() -> list[str]:
    """Every task there is."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def build(name: str) -> Task:
    """A fresh, untrained task."""
    task: Task = importlib.import_module(f"{__name__}.{name}").build()
    return task
