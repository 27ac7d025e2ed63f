"""Lines and tables on a stream: plain text, and rich's tables on a terminal where rich is installed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO


class Output:
    """Where a command writes its result.

    Args:
        stream: Usually standard output.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def line(self, text: str = "") -> None:
        """Write one line."""
        self._stream.write(f"{text}\n")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write rows under a header, in columns."""
        # Not into a pipe: rich would fold the rows to the width of a terminal that is not there.
        if not (self._stream.isatty() and self._rich_table(header, rows)):
            self._plain_table([header, *rows])

    def _plain_table(self, rows: Sequence[Sequence[str]]) -> None:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            self.line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

    def _rich_table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
        try:
            from rich.console import Console
            from rich.table import Table
            from rich.text import Text
        except ModuleNotFoundError:
            return False
        table = Table(*header)
        for row in rows:
            table.add_row(*map(Text, row))  # as Text: a cell such as [1.0] is no markup
        Console(file=self._stream).print(table)
        return True
