"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from bench.stats import Spread


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int = 0) -> str:
    """A table whose first ``left`` columns hold words, the others numbers."""
    rule = ["---" if column < left else "--:" for column in range(len(heads))]
    return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in (heads, rule, *rows))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def three_digits(time: Spread | None) -> str:
    """The median."""
    return "–" if time is None else f"{time.median:.3g}" if time.median < 100 else f"{time.median:.0f}"


def with_quartiles(value: Spread | None) -> str:
    """``0.51 (0.49–0.53)``."""
    return "–" if value is None else f"{value.median:.2f} ({value.low:.2f}–{value.high:.2f})"
