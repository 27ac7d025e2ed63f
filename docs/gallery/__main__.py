"""Draw the gallery."""

import argparse
import sys
from pathlib import Path

import gallery

DEFAULT_FOLDER = Path(__file__).parents[1] / "_generated" / "gallery"


def main() -> int:
    parser = argparse.ArgumentParser(prog="gallery", description=gallery.__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=DEFAULT_FOLDER)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="draw these losses")
    parser.add_argument("--format", choices=("svg", "png"), default="svg")
    arguments = parser.parse_args()
    found = [] if arguments.only else gallery.gaps()
    for gap in found:
        sys.stderr.write(f"{gap}\n")
    if not found:
        gallery.generate(arguments.folder, arguments.only, arguments.format)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
