"""What the pages take from the installed packages: the losses, their pictures, their options, the changelogs.

A page holds blocks that are expanded when it is read:

    ```{loss} FocalLoss          heading, picture, config and reference of a loss
    ```
    ```{losses} losses-cls       table of the losses of a distribution
    ```
    ```{loss-list}               every loss by task, one line each
    ```
    ```{gallery} losses-cls      their pictures, each a link to its loss
    ```
    ```{functions} losses-cls    reference of the pure functions of a distribution
    ```
    ```{changelogs}              the changelog of every package
    ```

A registered loss that no page holds, or that has no picture, is a warning, and so fails the build.
"""

import hashlib
import importlib
import inspect
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gallery
from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

from losses_core import LOSSES, BaseLoss
from losses_core.base_loss import OPTIONS

logger = logging.getLogger(__name__)

HERE = Path(__file__).parents[1]
PICTURES = HERE / "_generated" / "gallery"
BLOCK = re.compile(r"^```\{(loss|losses|loss-list|gallery|functions|changelogs)\} *(.*)\n```$", re.MULTILINE)


TASKS = {
    "Classification": "losses-cls",
    "Detection": "losses-det",
    "Segmentation": "losses-seg",
    "Distillation": "losses-distill",
}
"""Heading of the list of losses → distribution."""


def _aliases(cls: type[BaseLoss]) -> list[str]:
    names = [name for name in LOSSES if LOSSES.describe(name).distribution is not None]
    return [name for name in names if LOSSES[name] is cls and name != cls.__name__]


def _of(distribution: str) -> dict[str, type[BaseLoss]]:
    """The losses of a distribution in the order of the pages."""
    known = {n: c for n, c in gallery.registered().items() if LOSSES.describe(n).distribution == distribution}
    return {name: known[name] for name in _pages() if name in known}


def _pages() -> dict[str, Path]:
    """Loss → the page that holds it, in the order in which the pages of a task are listed."""
    found = {}
    for index in sorted((HERE / "losses").glob("*/index.md")):
        (listed,) = re.findall(
            r"^```\{toctree\}\n:hidden:\n\n(.*?)^```", index.read_text("utf-8"), re.MULTILINE | re.DOTALL
        )
        for page in (index.with_name(f"{name}.md") for name in listed.split()):
            found |= {m[2].strip(): page for m in BLOCK.finditer(page.read_text("utf-8")) if m[1] == "loss"}
    return found


def _use(cls: type[BaseLoss]) -> str:
    """The text after "Use when:" of a docstring, on one line."""
    found = re.search(r"^Use when: *(.*?)\n\n", inspect.getdoc(cls) or "", re.MULTILINE | re.DOTALL)
    text = " ".join(found[1].split()) if found else ""
    text = re.sub(r":math:`([^`]*)`", r"$\1$", text)
    return re.sub(r"(?<!`)`{1,2}([^`]+)`{1,2}(?!`)", r"`\1`", text)


def _picture(name: str) -> str:
    alt = f"{name}: value and gradient against {gallery.TABLE[name].x}"
    return "\n".join(
        f"```{{image}} /_generated/gallery/{name}-{theme}.svg\n:class: only-{theme}\n:alt: {alt}\n```"
        for theme in gallery.THEMES
    )


def _config(cls: type[BaseLoss]) -> str:
    """A config with the loss's own parameters at their defaults."""
    parameters = {n: p.default for n, p in inspect.signature(cls).parameters.items() if n not in OPTIONS}
    items = [f"type: {cls.__name__}", *(f"{name}: {_yaml(value)}" for name, value in parameters.items())]
    text = f"loss: {{{', '.join(items)}}}"
    if len(text) > 88:
        text = "loss:\n" + "\n".join(f"  {item}" for item in items)
    return text


def _yaml(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    # YAML 1.1 takes 1e-06 for a string; the builder would read it as a number all the same
    return f"{value:f}".rstrip("0") if isinstance(value, float) and "e" in repr(value) and value > 1e-9 else str(value)


def _loss(name: str) -> str:
    cls = gallery.registered().get(name)
    if cls is None or name not in gallery.TABLE:
        logger.warning(
            "%s: %s", name, "no installed package declares it" if cls is None else "no entry in docs/gallery"
        )
        return ""
    also = "".join(f" Also named `{alias}`." for alias in _aliases(cls))
    module = cls.__module__.partition(".")[0]
    return f"""\
(loss-{name.lower()})=
## {name}

{_picture(name)}

{gallery.TABLE[name].text}{also}

In a config, with its own parameters at their defaults:

```yaml
{_config(cls)}
```

```{{eval-rst}}
.. autoclass:: {module}.{name}
```
"""


def _losses(distribution: str) -> str:
    rows = "\n".join(f"| [{name}](#loss-{name.lower()}) | {_use(cls)} |" for name, cls in _of(distribution).items())
    return f"| loss | use when |\n| --- | --- |\n{rows}\n"


def _loss_list(_: str) -> str:
    """Every loss by task: a link and the first sentence of its docstring."""
    parts = []
    for task, distribution in TASKS.items():
        rows = []
        for name, cls in _of(distribution).items():
            sentence = " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())
            rows.append(f"- [{name}](#loss-{name.lower()}): " + re.sub(r"`{1,2}([^`]+)`{1,2}", r"`\1`", sentence))
        parts.append(f"### {task}\n\n" + "\n".join(rows))
    return "\n\n".join(parts)


def _gallery(distribution: str) -> str:
    cards = "\n\n".join(
        f"::::{{container}} card\n[{name}](#loss-{name.lower()})\n\n{_picture(name)}\n::::"
        for name in _of(distribution)
    )
    return f":::::{{container}} gallery\n{cards}\n:::::\n"


def _functions(distribution: str) -> str:
    module = importlib.import_module(f"{distribution.replace('-', '_')}.functional")
    blocks = "\n".join(f".. autofunction:: {module.__name__}.{name}" for name in module.__all__)
    return f"```{{eval-rst}}\n{blocks}\n```\n"


def _changelogs(_: str) -> str:
    parts = []
    for path in sorted(HERE.parent.glob("packages/*/CHANGELOG.md")):
        name = path.parent.name
        text = re.sub(r"^# .*\n|<!--.*?-->", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        text = re.sub(r"^#", "##", text, flags=re.MULTILINE).strip()
        fragments = [f.read_text(encoding="utf-8").strip() for f in sorted(path.parent.glob("changelog.d/*.md"))]
        pending = "\n".join("- " + fragment.replace("\n", "\n  ") for fragment in fragments)
        parts.append(f"## {name}\n\n{text}\n\n" + (f"### Not released yet\n\n{pending}\n" if pending else ""))
    return "\n".join(parts)


EXPAND: dict[str, Callable[[str], str]] = {
    "loss": _loss,
    "losses": _losses,
    "loss-list": _loss_list,
    "gallery": _gallery,
    "functions": _functions,
    "changelogs": _changelogs,
}


def expand(app: Sphinx, docname: str, content: list[str]) -> None:
    text = BLOCK.sub(lambda match: EXPAND[match[1]](match[2].strip()), content[0])
    content[0] = PAPER.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", text)


def _digest() -> str:
    """What the pictures are made from: the script, and the packages of the losses and of their base."""
    packages = {cls.__module__.partition(".")[0] for cls in gallery.registered().values()} | {"losses_core"}
    files = sorted((HERE / "gallery").glob("*.py"))
    for package in sorted(packages):
        spec = find_spec(package)
        for place in spec.submodule_search_locations or () if spec else ():
            files += sorted(Path(place).rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def prepare(app: Sphinx) -> None:
    for gap in gallery.gaps():
        logger.warning(gap)
    for name in gallery.registered():
        if name not in _pages():
            logger.warning("%s is registered and no page under losses/ holds it", name)
    stamp, digest = PICTURES / "made-from", _digest()
    if not stamp.exists() or stamp.read_text() != digest:
        logger.info("drawing the gallery ...")
        gallery.generate(PICTURES, [name for name in gallery.registered() if name in gallery.TABLE])
        stamp.write_text(digest)


def unresolved(app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.Element) -> nodes.Element | None:
    """A word in single backticks that is no name in these pages (a value, a file, a parameter) stays as it is."""
    if node["reftype"] == "obj":
        return contnode
    return None


PAPER = re.compile(r"(?<![\w\[/`])arXiv (\d{4}\.\d{4,5})")


LITERAL = re.compile(r"``.+?``|:\w+:`[^`]*`|`[^`]*`")


NAME = re.compile(r"`~?[A-Za-z_][\w.]*`")


def as_written(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """A docstring is written to be read as it is: |x| is an absolute value, not one of docutils' substitutions, and
    what stands in single backticks is a reference only if it can be a name."""
    indent: int | None = None  # of the formula that the line is in
    for number, line in enumerate(lines):
        here = len(line) - len(line.lstrip())
        if indent is not None and line.strip() and here <= indent:
            indent = None
        if line.lstrip().startswith((".. math::", ">>>", "...")):
            indent = here
        if indent is None:
            kept = [
                f"`{k}`" if k[:2] != "``" and k[0] == "`" and not NAME.fullmatch(k) else k
                for k in LITERAL.findall(line)
            ]
            plain = [re.sub(r"(?<!\\)\|", r"\|", part) for part in LITERAL.split(line)]
            written = "".join(a + b for a, b in zip(plain, [*kept, ""], strict=True))
            lines[number] = PAPER.sub(r"`arXiv \1 <https://arxiv.org/abs/\1>`__", written)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("builder-inited", prepare)
    app.connect("source-read", expand)
    app.connect("missing-reference", unresolved)
    app.connect("autodoc-process-docstring", as_written)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
