"""Formulas as MathML, converted when the site is built: no script, no font and no host is needed to read them."""

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)


BIG = re.compile(r"\\([bB]igg?)(?=([()\[\]|]))")


def _sided(tex: str) -> str:
    """`\\big(` as `\\bigl(`, and so on: docutils knows the sided forms only, and stretches bars by itself."""
    side = {"(": "l", "[": "l", ")": "r", "]": "r"}
    return BIG.sub(lambda found: "" if found[2] == "|" else f"\\{found[1]}{side[found[2]]}", tex)


def _convert(node: nodes.Element, as_block: bool) -> str:
    try:
        return str(tex2mathml(_sided(node.astext()), as_block=as_block))
    except MathError as error:
        logger.warning("cannot convert the formula %s: %s", node.astext(), error, location=node)
        return f"<code>{node.astext()}</code>"


def _inline(self: Any, node: nodes.Element) -> None:
    self.body.append(_convert(node, as_block=False))
    raise nodes.SkipNode


def _block(self: Any, node: nodes.Element) -> None:
    self.body.append(f'<div class="formula">{_convert(node, as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
