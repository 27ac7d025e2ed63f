"""Warnings that point to the user's line, however many frames of the libraries lie between."""

from __future__ import annotations

import sys
import warnings

_LIBRARIES = ("losses_core", "losses_distill", "torch")


def warn_user(message: str) -> None:
    """Warn at the nearest caller outside of these packages and torch."""
    level = 1
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _LIBRARIES:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
