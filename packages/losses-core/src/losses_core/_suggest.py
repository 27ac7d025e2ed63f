"""Small pieces of error texts: the nearest name, and a value shown in a bounded length."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable

_LONGEST_NAME = 80  # difflib is quadratic, and nobody mistypes a name of this length

_shortener = reprlib.Repr()
_shortener.maxstring = _shortener.maxother = 80
_shortener.maxlist = _shortener.maxtuple = _shortener.maxdict = 6
_shortener.maxlevel = 2


def _folded(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def closest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate nearest to `name`, or None where none is near; case and underscores do not count."""
    import difflib

    if len(name) > _LONGEST_NAME:
        return None
    by_folded: dict[str, str] = {}
    for candidate in candidates:
        by_folded.setdefault(_folded(candidate), candidate)
    found = difflib.get_close_matches(_folded(name), by_folded, n=1)
    return by_folded[found[0]] if found else None


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """A sentence to append to an error text, starting with a space, or nothing.

    Args:
        name: What was written.
        candidates: What could have been meant.

    Returns:
        `" Did you mean 'x'?"`, or `""` where no candidate is near.

    Example:
        >>> did_you_mean("smoth", ["smooth", "exponent"])
        " Did you mean 'smooth'?"
        >>> did_you_mean("banana", ["smooth", "exponent"])
        ''
    """
    found = closest(name, candidates)
    return f" Did you mean {found!r}?" if found is not None else ""


def shown(value: object) -> str:
    """`repr(value)` of bounded length, safe also for an object whose own repr fails."""
    return _shortener.repr(value)
