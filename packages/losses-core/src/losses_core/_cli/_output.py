"""Lines, tables and JSON on a stream: plain text, and rich's tables and bars on a terminal where rich is installed."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from losses_core.errors import LossesError


class UsageError(LossesError):
    """An argument that makes no sense here: the exit status is 2, as for arguments that cannot be parsed."""


LAST_COLUMN = 20
"""Characters of the last column that a terminal should have left."""

BORDERS = 3
"""Characters between two columns of a table."""

PATIENCE = 1.0
"""Seconds after which something to look at is owed."""


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

    def json(self, value: Any) -> None:
        """Write a value for programs to read; NaN and infinity, which JSON lacks, as strings."""
        self.line(json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False))

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], optional: Sequence[str] = ()) -> None:
        """Write rows under a header, in columns.

        Args:
            header: Names of the columns; a name may have several lines.
            rows: Their cells.
            optional: Columns that a narrow terminal omits, the first one first; it folds or cuts the last column.
        """
        # Not into a pipe: rich would fold the rows to the width of a terminal that is not there.
        if not self._stream.isatty():
            self._plain_table([header, *rows])
            return
        width = shutil.get_terminal_size().columns
        table = _fitting([header, *rows], optional, width)
        if not self._rich_table(table):
            self._plain_table(table, width)

    def _plain_table(self, rows: Sequence[Sequence[str]], width: int | None = None) -> None:
        lines = [line for row in rows for line in _lines_of(row)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for cells in lines:
            line = "  ".join(cell.ljust(size) for cell, size in zip(cells, widths, strict=True)).rstrip()
            self.line(line if width is None or len(line) <= width else f"{line[: width - 1]}…")

    def _rich_table(self, rows: Sequence[Sequence[str]]) -> bool:
        try:
            from rich.console import Console
            from rich.table import Table
            from rich.text import Text
        except ModuleNotFoundError:
            return False
        header, *others = rows
        table = Table()
        for index, column in enumerate(header):
            table.add_column(column, no_wrap=index < len(header) - 1)
        for row in others:
            table.add_row(*map(Text, row))  # as Text: a cell such as [1.0] is no markup
        Console(file=self._stream).print(table)
        return True


def _lines_of(row: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The lines of cells, whose last lines are on one level."""
    cells = [cell.split("\n") for cell in row]
    height = max(map(len, cells))
    return zip(*([""] * (height - len(cell)) + cell for cell in cells), strict=True)


def _fitting(rows: list[Sequence[str]], optional: Sequence[str], width: int) -> list[Sequence[str]]:
    """Without as many of the optional columns as it takes to leave the last one some width."""
    for name in (None, *optional):
        if name is not None:
            index = rows[0].index(name)
            rows = [[*row[:index], *row[index + 1 :]] for row in rows]
        sizes = [max(len(line) for cell in column for line in cell.split("\n")) for column in zip(*rows, strict=True)]
        if sum(sizes[:-1]) + min(sizes[-1], LAST_COLUMN) + BORDERS * len(sizes) + 1 <= width:
            break
    return rows


@contextmanager
def write(path: str) -> Iterator[TextIO]:
    """A file to write text to.

    Raises:
        LossesError: It cannot be written.
    """
    try:
        with open(path, "w", encoding="utf-8") as stream:
            yield stream
    except OSError as error:
        raise LossesError(f"{path}: cannot be written: {error.strerror}") from error


@contextmanager
def progress(total: int, stream: TextIO | None = None) -> Iterator[Callable[[str], None]]:
    """A bar on standard error, if that is a terminal, as soon as the work takes long; gone at the end.

    Yields:
        A function to call before each of the `total` steps, with what it is.
    """
    stream = stream or sys.stderr
    started, done = time.monotonic(), 0
    bar: Callable[[str, int | None], None] | None = None

    def step(what: str) -> None:
        nonlocal done, bar
        if stream.isatty() and time.monotonic() - started > PATIENCE:
            if bar is None:
                bar = _rich_bar(stream, total) or _plain_bar(stream, total)
            bar(what, done)
        done += 1

    try:
        yield step
    finally:
        if bar is not None:
            bar("", None)


def _plain_bar(stream: TextIO, total: int) -> Callable[[str, int | None], None]:
    def show(what: str, done: int | None) -> None:
        stream.write("\r\x1b[K" if done is None else f"\r\x1b[K{done} of {total} done, now {what}")
        stream.flush()

    return show


def _rich_bar(stream: TextIO, total: int) -> Callable[[str, int | None], None] | None:
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ModuleNotFoundError:
        return None
    bar = Progress(console=Console(file=stream), transient=True)
    task = bar.add_task("", total=total)
    bar.start()

    def show(what: str, done: int | None) -> None:
        if done is None:
            bar.stop()
        else:
            bar.update(task, description=what, completed=done)

    return show


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not abs(value) < float("inf") else value
