"""Add a row for each new loss to tests/integration/specification.toml: what its users are promised from then on.

A row holds the parameters of the constructor with their defaults. Rows that exist are never changed.
"""

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from repository import Files, Loss, command, losses, plugins

HEADER = re.compile(r"\[losses\.(\w+)\]")


def value(default: Any) -> str:
    """A default in TOML, which has no null."""
    if isinstance(default, list | tuple):
        return f"[{', '.join(map(value, default))}]"
    return json.dumps("none" if default is None else default, ensure_ascii=False)


def row(loss: Loss, options: dict[str, Any]) -> list[str]:
    """The lines of a loss; an option that all losses have is in it where its default is another."""
    defaults = {name: default for name, default in loss.defaults.items() if options.get(name, ...) != default}
    listed = ", ".join(f"{name} = {value(default)}" for name, default in defaults.items())
    lines = [
        f"[losses.{loss.name}]",
        f'distribution = "{loss.package.name}"',
        f'target = "{loss.module}"',
        f"defaults = {{ {listed} }}" if listed else "defaults = {}",
    ]
    return [*lines, f"aliases = {value(loss.aliases)}"] if loss.aliases else lines


def files(root: Path) -> Files:
    path = root / "tests" / "integration" / "specification.toml"
    text = path.read_text(encoding="utf-8")
    table = tomllib.loads(text)
    lines = text.splitlines()
    for package in plugins(root):
        new = [loss for loss in losses(package) if loss.name not in table["losses"]]
        at = _end_of_rows(lines, {name for name, row in table["losses"].items() if row["distribution"] == package.name})
        lines[at:at] = [line for loss in new for line in row(loss, table["options"])]
    return {path: "\n".join(lines) + "\n"}


def _end_of_rows(lines: list[str], names: set[str]) -> int:
    """Where the last of these rows ends; the end of the file where there is none."""
    end, inside = None, False
    for number, line in enumerate(lines, 1):
        if line.startswith("["):
            header = HEADER.match(line)
            inside = header is not None and header[1] in names
        if inside and line.strip() and not line.startswith("#"):
            end = number
    return len(lines) if end is None else end


main = command(files)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
