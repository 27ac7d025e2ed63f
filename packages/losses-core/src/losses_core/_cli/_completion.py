"""Completion of a shell, by argcomplete where it is installed."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from typing import Any

from losses_core.registry import LOSSES

SUFFIXES = (".yaml", ".yml", ".json", ".toml")
"""Of the files that a config is read from."""

Completer = Callable[..., Iterable[str]]


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell and end the process, if this is a request for completion."""
    if "_ARGCOMPLETE" not in os.environ:
        return
    try:
        import argcomplete
    except ModuleNotFoundError:
        return
    argcomplete.autocomplete(parser, always_complete_options=False)


def completed_by(completer: Completer, action: argparse.Action) -> None:
    """Let an argument be completed by a function of what is written of it."""
    action.completer = completer  # type: ignore[attr-defined]  # argcomplete looks for it


def losses(prefix: str, **_: Any) -> Iterable[str]:
    """The names of losses that start so."""
    return [name for name in LOSSES if name.startswith(prefix)]


def configs(prefix: str, **keywords: Any) -> Iterable[str]:
    """The folders, and the files that may hold a config."""
    from argcomplete.completers import FilesCompleter

    found: Iterable[str] = FilesCompleter([suffix[1:] for suffix in SUFFIXES])(prefix, **keywords)
    return found


def losses_and_configs(prefix: str, **keywords: Any) -> Iterable[str]:
    return [*losses(prefix), *configs(prefix, **keywords)]
