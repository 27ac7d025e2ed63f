"""Long names in the cells of tables may be broken between words, so that a table fits into a narrow window."""

import itertools
import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

# after the punctuation of a call, and before a capital letter within a name
BREAK = re.compile(r"(?<=[(,=_./])(?=\w)|(?<=[a-z0-9])(?=[A-Z])")
WITHIN_NAME = '<wbr class="within-name">'  # the style sheet takes these for a narrow window alone


def insert_breaks(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Put `<wbr>` between the words of code in cells; it is not copied with the text."""
    if app.builder.format != "html":
        return
    for entry in doctree.findall(nodes.entry):
        for literal in list(entry.findall(nodes.literal)):
            if len(words := BREAK.split(literal.astext())) > 1 and all(isinstance(c, nodes.Text) for c in literal):
                literal[:] = [nodes.Text(words[0])]
                for before, word in itertools.pairwise(words):
                    html = WITHIN_NAME if before[-1].isalnum() else "<wbr>"
                    literal += [nodes.raw("", html, format="html"), nodes.Text(word)]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the transformation."""
    app.connect("doctree-resolved", insert_breaks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
