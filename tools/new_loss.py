"""Write the four places of a new loss: source, entry point, test case, oracle; then all that is generated from them.

python tools/new_loss.py seg MyLoss

What it writes passes the tests: then put the formula in the place of the squared error, in the source, in its docstring
and in the oracle.
"""

import argparse
import ast
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

import generate
from repository import GROUP, ROOT, Files, Package, plugins, tree_of


class NewLossError(Exception):
    """Why a loss cannot be added, and what to do."""


def chosen(root: Path, short: str) -> Package:
    """The package of this name, which is given without `losses-`."""
    known = {package.name.removeprefix("losses-"): package for package in plugins(root)}
    if short not in known:
        raise NewLossError(f"there is no package {short!r}; there are {', '.join(known)}.")
    return known[short]


def with_entry_point(text: str, name: str, target: str) -> str:
    """A pyproject.toml with one more entry point, which is inserted by its name."""
    lines = text.splitlines(keepends=True)
    header = lines.index(f'[project.entry-points."{GROUP}"]\n')
    at = header + 1
    while at < len(lines) and "=" in lines[at] and lines[at].partition(" =")[0] < name:
        at += 1
    lines.insert(at, f'{name} = "{target}"\n')
    return "".join(lines)


def with_case(text: str, inputs: str, cases: str) -> str:
    """A table of cases with these at its end, and before it the function that makes their inputs."""
    assigned = [node for node in ast.parse(text).body if isinstance(node, ast.Assign)]
    (table,) = (node for node in assigned if ast.unparse(node.targets[0]) == "CASES")
    lines = text.splitlines(keepends=True)
    start, end = table.lineno - 1, (table.end_lineno or 0) - 1
    before = "".join(lines[:start]).rstrip("\n")
    return "".join([before, "\n\n\n", inputs, "\n\n", *lines[start:end], cases, *lines[end:]])


def skeleton(root: Path, package: Package, loss: str) -> Files:
    """The four files with a new loss in them.

    Raises:
        NewLossError: The name is none of a class, or is taken.
    """
    core = root / "packages" / "losses-core" / "src" / "losses_core"
    names = runpy.run_path(str(core / "_names.py"))
    templates = runpy.run_path(str(core / "_cli" / "_templates.py"))
    if not names["is_class_name"](loss):
        raise NewLossError(f"expected the name of a class, as MyLoss; got {loss!r}.")
    for other in plugins(root):
        if loss in other.entry_points:
            raise NewLossError(f"{other.name} declares {loss} already.")
    function = names["function_name"](loss)
    source, tests = package.source / f"{function}.py", package.folder / "tests"
    if source.exists() or source.with_suffix("").exists():
        raise NewLossError(f"{source.relative_to(root)} exists already.")
    cases, oracles = (tests / name for name in ("cases.py", "oracles.py"))
    if any(getattr(node, "name", None) == function for node in tree_of(oracles).body):
        raise NewLossError(f"{oracles.relative_to(root)} has a function {function} already.")

    def fill(name: str) -> str:
        text: str = templates["fill"](templates[name], loss=loss, function=function, oracle=f"oracles.{function}")
        return text

    project = package.folder / "pyproject.toml"
    target = f"{package.module}.{function}:{loss}"
    return {
        source: fill("SOURCE"),
        project: with_entry_point(project.read_text(encoding="utf-8"), loss, target),
        cases: with_case(cases.read_text(encoding="utf-8"), fill("INPUTS"), fill("CASES")),
        oracles: f"{oracles.read_text(encoding='utf-8')}\n\n{fill('ORACLE')}",
    }


def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser("new-loss", description="Write the skeleton of a new loss.")
    parser.add_argument("package", help="without losses-, as seg")
    parser.add_argument("loss", help="the class, as MyLoss")
    given = parser.parse_args(arguments)
    try:
        files = skeleton(root, chosen(root, given.package), given.loss)
    except NewLossError as error:
        print(f"new-loss: {error}", file=sys.stderr)
        return 1
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
        print(f"{path.relative_to(root)}: written")
    return generate.main([], root)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
