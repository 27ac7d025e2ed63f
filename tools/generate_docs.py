"""Write what the documentation lists: a page for each loss, and the table of losses in the README.

A loss that no page under docs/losses holds is appended to the page named like its module, which is made where it does
not exist. Pages are only added to. The README lists the losses in the order of the pages, with the first line of their
docstrings.
"""

import re
import sys
from pathlib import Path

from repository import Files, Loss, Package, command, losses, plugins, replace_block

DISTRIBUTION = re.compile(r"^```\{losses\} *(\S+)\n```$", re.MULTILINE)
LISTED = re.compile(r"(^```\{toctree\}\n:hidden:\n\n)(.*?)(^```$)", re.MULTILINE | re.DOTALL)
HELD = re.compile(r"^```\{loss\} *(\S+)\n```$", re.MULTILINE)


def page_files(index: Path, package: Package) -> tuple[Files, list[Loss]]:
    """The pages of a package, and its losses in their order.

    Args:
        index: The page that lists the others.
        package: The package whose losses they hold.
    """
    text = index.read_text(encoding="utf-8")
    found = LISTED.search(text)
    if found is None:
        raise SystemExit(f"{index}: expected a hidden toctree of the pages of {package.name}")
    names = found[2].split()
    names += sorted({path.stem for path in index.parent.glob("*.md")} - {index.stem, *names})  # written, but not listed
    pages = {name: index.with_name(f"{name}.md").read_text(encoding="utf-8") for name in names}
    known = {loss.name: loss for loss in losses(package)}
    held = [name for page in pages.values() for name in HELD.findall(page)]
    for name in known:
        if name not in held:
            page = known[name].module.rpartition(".")[2]
            title = f"# {page.replace('_', ' ').capitalize()}\n"
            pages[page] = f"{pages.get(page, title)}\n```{{loss}} {name}\n```\n"
    listing = LISTED.sub(lambda match: f"{match[1]}{''.join(f'{name}{chr(10)}' for name in pages)}{match[3]}", text)
    order = [name for page in pages.values() for name in HELD.findall(page)]
    written = {index.with_name(f"{name}.md"): page for name, page in pages.items()}
    return {index: listing, **written}, [known[name] for name in order if name in known]


def row(loss: Loss) -> str:
    """The line of a loss in the README."""
    text = re.sub(r":math:`([^`]*)`", r"$\1$", loss.summary).replace("``", "`").removesuffix(".").replace("|", r"\|")
    also = "".join(f"; also named `{alias}`" for alias in loss.aliases)
    return f"| `{loss.name}` | {text}{also} |\n"


def files(root: Path) -> Files:
    indexes = {}
    for index in sorted(root.glob("docs/losses/*/index.md")):
        for name in DISTRIBUTION.findall(index.read_text(encoding="utf-8")):
            indexes[name] = index
    made: Files = {}
    packages = {package.name: package for package in plugins(root)}
    if lacking := packages.keys() - indexes.keys():
        raise SystemExit(f"no docs/losses/*/index.md holds ```{{losses}} {lacking.pop()}")
    table = "\n| loss | description |\n| --- | --- |\n"
    for name, index in indexes.items():
        pages, ordered = page_files(index, packages[name])
        made |= pages
        table += f"| **{index.parent.name}** | **`{name}`** |\n" + "".join(map(row, ordered))
    readme = root / "README.md"
    made[readme] = replace_block(readme.read_text(encoding="utf-8"), "losses", f"{table}\n", readme)
    return made


main = command(files)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
