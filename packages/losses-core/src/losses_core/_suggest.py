"""Pieces of error texts: the nearest name, a value in a bounded length, a text that a terminal prints as it is."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from itertools import islice

_LONGEST_NAME = 80  # difflib is quadratic, and nobody mistypes a name of this length
_MOST_NAMES = 1000
_LIKENESS = 0.7


class _Shortener(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write the decimal digits of a large integer
        return repr(x) if x.bit_length() <= 256 else f"{hex(x)[:20]}... (an integer of {x.bit_length()} bits)"


_shortener = _Shortener()
_shortener.maxstring = _shortener.maxother = 80
_shortener.maxlist = _shortener.maxtuple = _shortener.maxdict = 6
_shortener.maxlevel = 2


def closest(name: object, candidates: Iterable[str]) -> str | None:
    """The candidate nearest to `name`, or None where none is near; case and underscores do not count.

    Near is one letter away, or alike in 70 % of the letters. A "loss" at the end of both does not make them
    more alike.
    """
    if not isinstance(name, str) or len(name) > _LONGEST_NAME:
        return None
    best, found = 0.0, None
    for candidate in islice(candidates, _MOST_NAMES):
        likeness = _likeness(_folded(name), _folded(candidate))
        if likeness > best:
            best, found = likeness, candidate
    return found


def _folded(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _likeness(name: str, candidate: str) -> float:
    """The share of letters that two folded names have in common; 0 where they are not near."""
    stem, other = (text.removesuffix("loss") or text for text in (name, candidate))
    if stem == other:
        return 1.0
    if name.endswith("loss") and candidate.endswith("loss"):
        return _ratio(stem, other)
    return max(_ratio(name, candidate), _ratio(stem, other))


def _ratio(a: str, b: str) -> float:
    from difflib import SequenceMatcher

    if abs(len(a) - len(b)) > max(len(a), len(b)) / 2:
        return 0.0
    matcher = SequenceMatcher(None, a, b, autojunk=False)
    if min(len(a), len(b)) >= 3 and len(a) == len(b) and sum(x != y for x, y in zip(a, b, strict=True)) == 1:
        return matcher.ratio()
    if matcher.real_quick_ratio() < _LIKENESS or matcher.quick_ratio() < _LIKENESS:
        return 0.0
    ratio = matcher.ratio()
    return ratio if ratio >= _LIKENESS else 0.0


def did_you_mean(name: object, candidates: Iterable[str]) -> str:
    """A sentence to append to an error text, starting with a space, or nothing.

    Args:
        name: What was written.
        candidates: What could have been meant.

    Returns:
        `" Did you mean 'x'?"`, or `""` where no candidate is near.

    Example:
        >>> did_you_mean("smoth", ["smooth", "exponent"])
        " Did you mean 'smooth'?"
        >>> did_you_mean("MSELoss", ["MGDLoss", "L1Loss"])
        ''
    """
    found = closest(name, candidates)
    return f" Did you mean {shown(found)}?" if found is not None else ""


def shown(value: object) -> str:
    """`repr(value)` of bounded length, safe also for an object whose own repr fails."""
    return _shortener.repr(value)


def text_of(error: BaseException) -> str:
    """`str(error)`, safe also for an error whose own text fails."""
    try:
        return str(error)
    except BaseException:  # a class of its own, from a plug-in
        return ""


def printable(text: object, limit: int) -> str:
    r"""A text of at most `limit` characters, without any that a terminal would act on: those are escaped.

    Example:
        >>> printable("\x1b[31mred", 80)
        '\\x1b[31mred'
        >>> printable("0123456789" * 10, 30)
        '012345678901234567 ... 456789'
    """
    short = _clipped(str(text), limit)
    if short.isprintable():
        return short
    escaped = (c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode("ascii") for c in short)
    return _clipped("".join(escaped), limit)


def _clipped(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    kept = max(limit - 5, 0)
    return f"{text[: kept * 3 // 4]} ... {text[len(text) - kept // 4 :]}"
