"""Warnings that point at the line of the user's program."""

from __future__ import annotations

import sys
import warnings

import torch

_said: set[str] = set()


def warn_user(message: str, *, once: bool = False) -> None:
    """Warn at the nearest caller outside of packages of losses and of torch; while compiling there is none.

    Args:
        message: what to say.
        once: whether to say it once in a process.
    """
    if torch.compiler.is_compiling() or (once and message in _said):
        return
    if once:
        _said.add(message)
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and _is_library(frame.f_globals.get("__name__", "")):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


def _is_library(module: str) -> bool:
    package = module.partition(".")[0]
    return package in ("losses", "torch") or package.startswith("losses_")
