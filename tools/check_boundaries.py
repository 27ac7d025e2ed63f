"""Who may import whom: a plug-in imports losses_core and no sibling; losses_core names no plug-in; one file names what
is not public in torch. And no code that a compiler may see has what those of older versions do not trace: `isinstance`
of a union, `|=` of a dict.

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
COMPAT = "torch_compat.py"
NEVER_TRACED = "_cli"
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


def private_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The names of torch with an underscore that a source reads or imports."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute():
                names = ast.unparse(node).split(".")
                if not all(map(str.isidentifier, names)):  # of a result, not of a module
                    continue
            case ast.ImportFrom(module=str(module), level=0):
                names = [*module.split("."), *(alias.name for alias in node.names)]
            case ast.Import():
                names = [part for alias in node.names for part in alias.name.split(".")]
            case _:
                continue
        private = [name for name in names if name.startswith("_") and not name.endswith("__")]
        if names[0] == "torch" and private:
            yield node.lineno, private[0]


def not_traced(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The lines with what an older compiler does not trace, and what to write instead."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="isinstance"), args=[_, ast.BinOp()]):
                yield node.lineno, "isinstance of a union, which torch 2.6 does not compile: write a tuple of types"
            case ast.AugAssign(op=ast.BitOr(), value=ast.Dict() | ast.DictComp()):
                yield node.lineno, "|= of a dict, which torch 2.6 does not compile: write update"


def check_module(source: str, package: str, siblings: set[str], path: Path = Path()) -> Iterator[tuple[int, str]]:
    """The faults in one module of `package`, with their lines; `siblings` are the packages of this repository."""
    tree = ast.parse(source)
    allowed = {package, CORE}
    if path.name != COMPAT:
        for line, name in private_names(tree):
            yield line, f"{name} of torch is not public: that belongs into {CORE}/utils/{COMPAT}"
    if NEVER_TRACED not in path.parts:
        yield from not_traced(tree)
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
            found = check_module(path.read_text(encoding="utf-8"), package, set(packages), path)
            faults += [f"{path.relative_to(root)}:{line}: {text}" for line, text in found]
    return faults


def main() -> int:
    faults = check(Path(__file__).parents[1])
    print("\n".join(faults) or "boundaries: every package imports losses_core only, and the core names no plug-in")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
