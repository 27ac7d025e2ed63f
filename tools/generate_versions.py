"""Write the table of tested versions, from what `nox -s versions` has counted, into the pages that show it."""

import json
import sys
from pathlib import Path

from repository import Files, command, replace_block
from versions import RESULTS, table

PAGES = ("README.md", "docs/install.md")


def files(root: Path) -> Files:
    rows = json.loads((root / RESULTS).read_text(encoding="utf-8"))
    lines = table(rows) if rows else ["Nothing has been counted yet: `nox -s versions` does."]
    content = "\n".join(["", *lines, "", ""])
    pages = [root / page for page in PAGES]
    return {page: replace_block(page.read_text(encoding="utf-8"), "versions", content, page) for page in pages}


main = command(files)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
