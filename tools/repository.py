"""What the tools share: the packages of this repository, the losses that they declare, and files made from these.

Sources are parsed, not imported, so that the tools need neither torch nor an installed package.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
GROUP = "losses_core.losses"
WIDTH = 120

Files = dict[Path, str]


@dataclass(frozen=True)
class Package:
    """A folder of packages/."""

    folder: Path

    @cached_property
    def project(self) -> dict[str, Any]:
        table: dict[str, Any] = tomllib.loads((self.folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        return table

    @property
    def name(self) -> str:
        return str(self.project["name"])

    @property
    def module(self) -> str:
        return self.name.replace("-", "_")

    @property
    def source(self) -> Path:
        return self.folder / "src" / self.module

    @cached_property
    def entry_points(self) -> dict[str, str]:
        """Name → `module:Class` of every loss that it declares."""
        return dict(self.project.get("entry-points", {}).get(GROUP, {}))

    @property
    def modules(self) -> list[str]:
        """The modules that the entry points name."""
        return sorted({target.partition(":")[0] for target in self.entry_points.values()})

    def declared(self, module: str) -> set[str]:
        """The classes of a module that are losses, with their aliases."""
        found = [(name, *target.split(":")) for name, target in self.entry_points.items()]
        return {name for alias, place, cls in found if place == module for name in (alias, cls)}

    def path_of(self, module: str) -> Path:
        """The path of a module without a suffix, which is its folder if it has one."""
        return self.folder / "src" / Path(*module.split("."))

    def files(self, module: str) -> list[Path]:
        """The public sources of a module: its file, or the files of its folder without the `__init__`."""
        path = self.path_of(module)
        if not path.is_dir():
            return [path.with_suffix(".py")]
        return sorted(file for file in path.glob("*.py") if not file.name.startswith("_"))


@dataclass(frozen=True)
class Loss:
    """A loss class that a package declares."""

    package: Package
    module: str
    name: str
    aliases: list[str] = field(default_factory=list)

    @cached_property
    def node(self) -> ast.ClassDef:
        return _class_of(self.package, self.module, self.name)

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return (ast.get_docstring(self.node) or "").partition("\n")[0]

    @property
    def defaults(self) -> dict[str, Any]:
        """Constructor parameter → default, where it has one that is a literal."""
        arguments = next(_constructors(self.package, self.module, self.node), None)
        if arguments is None:
            return {}
        positional = [*arguments.posonlyargs, *arguments.args]
        pairs = list(zip(positional[::-1], arguments.defaults[::-1], strict=False))[::-1]
        pairs += [(a, d) for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if d is not None]
        found = {}
        for argument, default in pairs:
            try:
                found[argument.arg] = ast.literal_eval(default)
            except ValueError:
                continue
        return found


def packages(root: Path) -> list[Package]:
    """All folders of packages/ with a pyproject.toml, by name."""
    return [Package(path.parent) for path in sorted(root.glob("packages/*/pyproject.toml"))]


def plugins(root: Path) -> list[Package]:
    """The packages that declare losses."""
    return [package for package in packages(root) if package.entry_points]


def losses(package: Package) -> list[Loss]:
    """The losses of a package in the order of its entry points, each class once."""
    found: dict[str, Loss] = {}
    for name, target in package.entry_points.items():
        module, _, cls = target.partition(":")
        loss = found.setdefault(target, Loss(package, module, cls))
        if name != cls:
            loss.aliases.append(name)
    return list(found.values())


def tree_of(path: Path) -> ast.Module:
    """The syntax of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def exported(tree: ast.Module) -> list[str] | None:
    """The names in the `__all__` of a module, or None if it has none."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]:
            names: list[str] = ast.literal_eval(node.value)
            return names
    return None


def _class_of(package: Package, module: str, name: str) -> ast.ClassDef:
    for path in package.files(module):
        for node in tree_of(path).body:
            if isinstance(node, ast.ClassDef) and node.name == name:
                return node
    raise SystemExit(f"{package.name} declares {module}:{name}, which is not there")


def _constructors(package: Package, module: str, node: ast.ClassDef) -> Iterator[ast.arguments]:
    """The parameters of the constructor: its own, or those of the nearest base that has one."""
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            yield item.args
    imported = {
        alias.asname or alias.name: (statement.module, alias.name)
        for path in package.files(module)
        for statement in tree_of(path).body
        if isinstance(statement, ast.ImportFrom) and statement.module
        for alias in statement.names
    }
    for base in map(ast.unparse, node.bases):
        place, name = imported.get(base, (module, base))
        if place.partition(".")[0] == package.module:
            yield from _constructors(package, place, _class_of(package, place, name))


def import_order(line: tuple[str, str]) -> tuple[str, int, str, str]:
    """Sort imports by module; constants, classes and functions of one, each by name: as ruff's import sorter does."""
    module, name = line
    return module, 0 if name.isupper() else 1 if name[0].isupper() else 2, name.lower(), name


def listed(names: Sequence[str]) -> str:
    """The assignment of `__all__`, sorted and laid out as ruff does."""
    names = sorted(names, key=lambda name: (import_order(("", name))[1], name))
    return bracketed("__all__ = [", [f'"{name}"' for name in names], "]")


def bracketed(opening: str, items: Sequence[str], closing: str) -> str:
    """A list of items on one line, or one a line where that is too long."""
    line = f"{opening}{', '.join(items)}{closing}\n"
    if len(line) <= WIDTH + 1:
        return line
    return f"{opening}\n{''.join(f'    {item},{chr(10)}' for item in items)}{closing}\n"


def replace_block(text: str, name: str, content: str, path: Path) -> str:
    """Replace what stands between the markers of a generated block of a Markdown page."""
    start, end = f"<!-- {name}: written by nox -s generate -->\n", f"<!-- end of {name} -->\n"
    before, found, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"{path}: expected the lines\n{start}{end}")
    return f"{before}{start}{content}{end}{after}"


def command(files: Callable[[Path], Files]) -> Callable[..., int]:
    """The `main` of a generator: write the files that differ, or with `--check` report them and fail."""

    def main(arguments: Sequence[str], root: Path = ROOT) -> int:
        outdated = {
            path: content
            for path, content in files(root).items()
            if not path.exists() or path.read_text(encoding="utf-8") != content
        }
        for path, content in outdated.items():
            if "--check" in arguments:
                print(f"{path.relative_to(root)} is out of date: run nox -s generate")
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
            print(f"{path.relative_to(root)}: written")
        return 1 if outdated and "--check" in arguments else 0

    return main
