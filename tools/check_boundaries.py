"""Who may import whom: a plug-in imports losses_core and no sibling; losses_core names no plug-in.

Read from the syntax, so that an import inside a function counts as well. In the core a plug-in's name may stand in
`_catalogue.py`, which is generated, and in docstrings and comments, where it is an example.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

CORE = "losses_core"
FACADE = "losses"  # forwards to whatever is installed, so it alone may name them all
CATALOGUE = "_catalogue.py"
PLUGIN = re.compile(r"\blosses[-_](?!core|testkit)[a-z]+\b")


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The absolute modules a source imports, with the line."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield node.lineno, module


def strings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The string constants of a source that are not docstrings."""
    prose = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in prose:
            yield node.lineno, node.value


def check_module(source: str, package: str, siblings: set[str]) -> Iterator[tuple[int, str]]:
    """The faults in one module of `package`, with their lines; `siblings` are the packages of this repository."""
    tree = ast.parse(source)
    allowed = {package, CORE}
    for line, module in imported(tree):
        top = module.partition(".")[0]
        if top in siblings - allowed:
            yield line, f"{package} imports {module}; it may import {CORE} only"
    if package == CORE:
        for line, text in strings(tree):
            if name := PLUGIN.search(text):
                yield line, f"{CORE} names a plug-in: {name[0]!r}"


def check(root: Path) -> list[str]:
    """All faults of a repository, as `path:line: text`."""
    packages = {path.parent.name.replace("-", "_"): path.parent for path in root.glob("packages/*/pyproject.toml")}
    faults = []
    for package, folder in sorted(packages.items()):
        for path in sorted((folder / "src").rglob("*.py")):
            if package == FACADE or (package == CORE and path.name == CATALOGUE):
                continue
            found = check_module(path.read_text(encoding="utf-8"), package, set(packages))
            faults += [f"{path.relative_to(root)}:{line}: {text}" for line, text in found]
    return faults


def main() -> int:
    faults = check(Path(__file__).parents[1])
    print("\n".join(faults) or "boundaries: every package imports losses_core only, and the core names no plug-in")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
