"""Write what a package exports: its `__init__.py`, its `functional.py`, and the `__init__.py` of folders of losses.

A file keeps its docstring and its imports from modules that hold no loss. All else is made from the entry points: the
classes that they name, and the functions of the modules that these are in. The functions of a module are those that are
called `…_loss` or are the `function` of a class; a module may say otherwise in an `__all__`.
"""

import ast
import sys
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from repository import WIDTH, Files, Package, bracketed, command, exported, import_order, listed, plugins, tree_of

HEADER = "# Everything below is written by `nox -s generate`.\n"

Import = tuple[str, str, str]
"""Module, name, and the name after `as`, or nothing."""


def public_names(package: Package, module: str) -> dict[str, Path]:
    """The public names of a module of losses, each with the file that defines it."""
    declared, trees = package.declared(module), {path: tree_of(path) for path in package.files(module)}
    declared |= {name for tree in trees.values() for name in _functions_of_classes(tree)}
    found: dict[str, Path] = {}
    for path, tree in trees.items():
        names = exported(tree)
        if names is None:
            names = [name for name in _defined(tree) if name in declared or name.endswith("_loss")]
        found |= {name: path for name in names if not name.startswith("_")}
    return found


def _functions_of_classes(tree: ast.Module) -> Iterator[str]:
    for cls in tree.body:
        for node in cls.body if isinstance(cls, ast.ClassDef) else ():
            match node:
                case ast.Assign(targets=[ast.Name(id="function")], value=ast.Name(id=name)):
                    yield name


def _defined(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.Assign(targets=[ast.Name(id=name)]):
                yield name


def rendered(path: Path, imports: Iterable[Import], owned: set[str]) -> str:
    """The source of a module that re-exports names.

    Args:
        path: The module as it is, for its docstring and its imports from modules that are not in `owned`.
        imports: What it exports.
        owned: Modules whose imports are replaced.
    """
    head, kept = _kept(path, owned)
    every = {*kept, *imports}
    blocks = [(module, f"from {module} import {name} as {alias}\n") for module, name, alias in every if alias]
    plain = sorted(((module, name) for module, name, alias in every if not alias), key=import_order)
    for module, lines in groupby(plain, key=lambda line: line[0]):
        blocks.append((module, _import(module, [name for _, name in lines])))
    text = "".join(block for _, block in sorted(blocks, key=lambda block: block[0]))
    return f"{head}\n{HEADER}{text}\n{listed([name for _, name in plain])}"


def _import(module: str, names: list[str]) -> str:
    line = f"from {module} import {', '.join(names)}\n"
    return line if len(line) <= WIDTH + 1 else bracketed(f"from {module} import (", names, ")")


def _kept(path: Path, owned: set[str]) -> tuple[str, list[Import]]:
    """The docstring of a module, as it is written, and its imports from modules that are not in `owned`."""
    kept = []
    docstring, *body = tree_of(path).body
    for node in body:
        match node:
            case ast.ImportFrom(module=str(module), names=names, level=0):
                kept += [(module, alias.name, alias.asname or "") for alias in names if module not in owned]
            case ast.Assign(targets=[ast.Name(id="__all__")]):
                pass
            case _:
                raise SystemExit(f"{path}:{node.lineno}: a generated module holds a docstring and imports alone")
    return "".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[: docstring.end_lineno]), kept


def exports(package: Package) -> Files:
    """The generated modules of one package."""
    made: Files = {}
    classes: list[Import] = []
    functions: list[Import] = []
    for module in package.modules:
        public = public_names(package, module)
        folder = package.path_of(module)
        if folder.is_dir():
            inner = [(f"{module}.{path.stem}", name, "") for name, path in public.items()]
            parts = {f"{module}.{path.stem}" for path in package.files(module)}
            made[folder / "__init__.py"] = rendered(folder / "__init__.py", inner, parts)
        classes += [(module, name, "") for name in public if name in package.declared(module)]
        functions += [(module, name, "") for name in public if name[0].islower()]
    if (package.source / "_kernels").is_dir():
        classes.append((package.module, "_kernels", "_kernels"))
    for name, imports in (("__init__.py", classes), ("functional.py", functions)):
        made[package.source / name] = rendered(package.source / name, imports, set(package.modules))
    return made


def files(root: Path) -> Files:
    return {path: text for package in plugins(root) for path, text in exports(package).items()}


main = command(files)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
