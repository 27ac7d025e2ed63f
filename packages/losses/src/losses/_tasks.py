"""The tasks: the sub-module of each, and the package it stands for."""

from __future__ import annotations

from importlib.util import find_spec

from losses_core import LossNotInstalledError
from losses_core._installing import how_to_install

TASKS = {
    "classification": "losses-cls",
    "detection": "losses-det",
    "distillation": "losses-distill",
    "segmentation": "losses-seg",
}
"""Sub-module → the distribution whose exports it holds."""


def package_of(task: str) -> str:
    """The import name behind a task: `losses_seg` for `segmentation`."""
    return TASKS[task].replace("-", "_")


def installed_tasks() -> list[str]:
    """The tasks whose package is installed; none is imported."""
    return [task for task in TASKS if find_spec(package_of(task)) is not None]


def not_installed(error: ModuleNotFoundError, module: str) -> ImportError | None:
    """What to raise where the import of a task's package failed.

    Args:
        error: How it failed.
        module: The sub-module, as `losses.segmentation`.

    Returns:
        An error that names the distribution; None where the package is there, and something that it imports is not.
    """
    task = module.rpartition(".")[2]
    if error.name != package_of(task):
        return None
    distribution = TASKS[task]
    return LossNotInstalledError(
        f"{module!r} is provided by {distribution}, which is not installed: {how_to_install(distribution)}"
    )
