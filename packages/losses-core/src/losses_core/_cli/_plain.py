"""Docstrings in reStructuredText as plain text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from losses_core._cli._tex import as_text

DIRECTIVE = re.compile(r"( *)\.\. ([\w-]+):: *(.*)")
LINK = re.compile(r"`([^`<]*[^`<\s])\s*<(\w+:[^`>]*)>`_{1,2}")
ROLE = re.compile(r"(?::[\w:-]+:)?`([^`<]*[^`<\s])\s*<[^`>]*>`_{0,2}|:[\w:-]+:`~?([^`]*)`")
MATH = re.compile(r":math:`([^`]*)`")
CODE = re.compile(r"``((?:(?!\n\n).)+?)``|`([^`]+)`_{0,2}", re.DOTALL)
TITLES = {"note": "Note:", "warning": "Warning:", "deprecated": "Deprecated:", "versionadded": "New in:"}
SILENT = ("code-block", "code", "math", "rubric")


def plain(text: str) -> str:
    r"""Text without markup: roles, quotes around code, directives and LaTeX.

    Example:
        >>> print(plain("With :math:`\\gamma \\ge 0`, see `BaseLoss` and ``reduction``."))
        With γ ≥ 0, see BaseLoss and reduction.
    """
    return "\n".join(_lines(text.splitlines()))


def _lines(lines: list[str]) -> Iterator[str]:
    """Blocks of lines with their markup taken out: directives as a whole, prose with its line breaks."""
    position = 0
    prose: list[str] = []
    while position < len(lines):
        line = lines[position]
        directive = DIRECTIVE.fullmatch(line)
        is_code = line.lstrip().startswith((">>>", "... "))
        if directive is None and not is_code:
            prose.append(line)
            position += 1
            continue
        yield from _inline(prose)
        prose = []
        if directive is None:
            yield line
            position += 1
            continue
        end = _end_of_block(lines, position, len(directive[1]))
        yield from _directive(directive, lines[position + 1 : end])
        position = end
    yield from _inline(prose)


def _end_of_block(lines: list[str], start: int, indent: int) -> int:
    """The line after a directive and its content."""
    end = start + 1
    for position in range(start + 1, len(lines)):
        line = lines[position]
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            break
        if line.strip():
            end = position + 1
    return end


def _directive(found: re.Match[str], content: list[str]) -> Iterator[str]:
    indent, name, argument = found.groups()
    if name == "math":
        for formula in re.split(r"\n\s*\n", "\n".join([argument, *content])):
            yield from (f"{indent}    {line}" for line in as_text(formula).splitlines())
        return
    if name in ("code-block", "code"):
        yield from content
        return
    title = TITLES.get(name, "" if name in SILENT else f"{name.capitalize()}:")
    yield from _inline([f"{indent}{title} {argument}".rstrip(), *content])


def _inline(lines: list[str]) -> list[str]:
    """Prose without roles and quotes; they may go over the end of a line."""
    if not lines:
        return []
    text = MATH.sub(lambda match: as_text(match[1]).replace("\n", ", "), "\n".join(lines))
    text = LINK.sub(r"\1 (\2)", text)
    text = ROLE.sub(lambda match: match[1] or match[2].rpartition(".")[2], text)
    text = CODE.sub(lambda match: match[1] or match[2], text)
    text = re.sub(r"\*\*(\w[^*\n]*\w|\w)\*\*", r"\1", text)
    return re.sub(r"\\([^\w\s])", r"\1", text).split("\n")  # an escaped character
