"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int = 0) -> str:
    """A table whose first ``left`` columns hold words, the others numbers."""
    rule = ["---" if column < left else "--:" for column in range(len(heads))]
    return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in (heads, rule, *rows))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
