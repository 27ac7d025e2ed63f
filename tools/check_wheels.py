"""Look into the built sdists and wheels: is everything there that a user needs, and nothing else?

python tools/check_wheels.py packages/losses-core packages/losses-cls
"""

import ast
import configparser
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from email import message_from_string
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]
LOSSES = "losses_core.losses"


def sources(folder: Path) -> set[str]:
    """The files of a package, as paths inside a wheel."""
    src = folder / "src"
    files = (path for path in src.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(src).as_posix() for path in files}


def check_entry_points(
    wheel: zipfile.ZipFile, text: str, project: dict[str, dict[str, dict[str, str]]]
) -> Iterator[str]:
    """Every declared entry point must have arrived, and point to something its module defines."""
    parser = configparser.ConfigParser(delimiters=("=",))
    parser.optionxform = str  # type: ignore[method-assign, assignment]  # the documented way to keep upper case
    parser.read_string(text)
    declared = dict(project.get("entry-points", {}))
    if "scripts" in project:
        declared["console_scripts"] = project["scripts"]  # type: ignore[assignment]  # a flat table, as the others
    for group, table in declared.items():
        built = dict(parser[group]) if parser.has_section(group) else {}
        if built != dict(table):
            yield f"entry points in {group}: expected {table}, found {built}"
    for group in parser.sections():
        for name, target in parser[group].items():
            module, _, attribute = target.partition(":")
            path = module.replace(".", "/")
            file = next((f for f in (f"{path}.py", f"{path}/__init__.py") if f in wheel.namelist()), None)
            if file is None:
                yield f"entry point {name} = {target}: the wheel has no module {module}"
            elif attribute not in defined(wheel.read(file).decode()):
                yield f"entry point {name} = {target}: {file} does not define {attribute}"


def defined(source: str) -> set[str]:
    """The names a module binds at its top level."""
    names: set[str] = set()
    for node in ast.parse(source).body:
        match node:
            case ast.ClassDef() | ast.FunctionDef():
                names.add(node.name)
            case ast.ImportFrom() | ast.Import():
                names |= {alias.asname or alias.name for alias in node.names}
            case ast.Assign():
                names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def check_metadata(text: str) -> Iterator[str]:
    metadata = message_from_string(text)
    for field in ("License-Expression", "Requires-Python", "Summary"):
        if not metadata[field]:
            yield f"METADATA has no {field}"
    if not str(metadata.get_payload()).strip():
        yield "METADATA has no description: the README is missing"
    for requirement in metadata.get_all("Requires-Dist", []):
        if requirement.startswith("losses-") and "<" not in requirement:
            yield f"the range of a sibling has no upper end: {requirement}"


def check_wheel(path: Path, folder: Path) -> Iterator[str]:
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    module = project["name"].replace("-", "_")
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        info = next(name for name in names if name.endswith(".dist-info/METADATA")).partition("/")[0]
        content = {name for name in names if not name.startswith(f"{info}/")}
        if missing := sources(folder) - content:
            yield f"missing: {sorted(missing)}"
        if surplus := content - sources(folder):
            yield f"does not belong here: {sorted(surplus)}"
        if f"{module}/py.typed" not in names:
            yield f"missing: {module}/py.typed, so no type checker would read its types"
        licence = f"{info}/licenses/LICENSE"
        if licence not in names or wheel.read(licence) != (ROOT / "LICENSE").read_bytes():
            yield f"{licence} is not the LICENSE of this repository"
        points = f"{info}/entry_points.txt"
        text = wheel.read(points).decode() if points in names else ""
        yield from check_entry_points(wheel, text, project)
        yield from check_metadata(wheel.read(f"{info}/METADATA").decode())


def check_sdist(path: Path, folder: Path) -> Iterator[str]:
    with tarfile.open(path) as sdist:
        names = {str(PurePosixPath(*PurePosixPath(name).parts[1:])) for name in sdist.getnames()}
    needed = {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE"} | {f"src/{name}" for name in sources(folder)}
    needed |= {path.relative_to(folder).as_posix() for path in (folder / "tests").rglob("*.py")}
    if missing := needed - names:
        yield f"missing: {sorted(missing)}"


def main(folders: list[str]) -> int:
    faults = 0
    for folder in map(Path, folders):
        stem = folder.name.replace("-", "_")
        for pattern, check in ((f"{stem}-*.whl", check_wheel), (f"{stem}-*.tar.gz", check_sdist)):
            (path,) = (ROOT / "dist").glob(pattern)
            found = list(check(path, folder))
            faults += len(found)
            print(f"{path.name}: {'ok' if not found else ''}", *found, sep="\n  " if found else "")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
