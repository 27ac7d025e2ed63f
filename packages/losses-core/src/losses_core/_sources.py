"""What the source of a loss says of it: read as text, nothing is imported."""

from __future__ import annotations

import ast
import functools
import warnings
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec

MAX_IMPORTS = 8
"""Modules that a class may be handed through until it is found."""


def summary_of(target: str) -> str:
    """The first paragraph of the docstring of a class in one line; empty where the source is not found.

    Args:
        target: Where the class is, as `module:Class`.
    """
    module, _, name = target.partition(":")
    try:
        node = _class(module, name, MAX_IMPORTS)
    # whatever a finder or the parser raises: a loss without a summary is listed too
    except Exception:
        return ""
    text = ast.get_docstring(node) if node is not None else None
    return " ".join((text or "").partition("\n\n")[0].split())


def _class(module: str, name: str, imports: int) -> ast.ClassDef | None:
    """The definition of a class, in the module or where that imports it from."""
    body, package = _parsed(module)
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node
    for node in body:
        if isinstance(node, ast.ImportFrom) and imports:
            for alias in node.names:
                if name == (alias.asname or alias.name):
                    return _class(_absolute(node, package), alias.name, imports - 1)
    return None


def _absolute(node: ast.ImportFrom, package: str) -> str:
    """The module that a statement imports from."""
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    return ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])


@functools.cache
def _parsed(module: str) -> tuple[list[ast.stmt], str]:
    """The statements of a module, and its package."""
    spec = _find(module)
    if spec is None or spec.loader is None or not hasattr(spec.loader, "get_source"):
        return [], ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the source, as of an invalid escape
        return ast.parse(spec.loader.get_source(module) or "").body, spec.parent or ""


def _find(module: str) -> ModuleSpec | None:
    """The spec of a module, without an import of the packages that it is in."""
    top, *names = module.split(".")
    spec = find_spec(top)
    for index in range(1, len(names) + 1):
        if spec is None:
            return None
        spec = PathFinder.find_spec(".".join([top, *names[:index]]), spec.submodule_search_locations)
    return spec
