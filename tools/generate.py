"""Write everything that follows from the sources and the entry points of the packages; `--check` only compares.

`nox -s generate` runs it. Each tools/generate_*.py writes one kind of file, and may be run alone.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import generate_catalogue
import generate_docs
import generate_exports
import generate_facade
import generate_specification
import generate_versions
from repository import ROOT

GENERATORS = (
    *(generate_exports, generate_catalogue, generate_facade, generate_docs, generate_specification),
    generate_versions,
)


def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    status: int = max([generator.main(arguments, root) for generator in GENERATORS])
    if not status:
        print("generated files: up to date")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
