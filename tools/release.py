"""Prepare the release of one package, or check the tag of one.

python tools/release.py losses-seg 0.2.0          # version file, changelog; prints the tag
python tools/release.py --tag losses-seg-v0.2.0   # is the tree what the tag says? prints the package's name

Nothing is written unless everything fits: the version is new, there is something to tell, and every range that one
package of this repository declares for another admits the version that other one then has.
"""

import argparse
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).parents[1]
ASSIGNED = re.compile(r'^__version__ = "(.+)"$', re.MULTILINE)
CITED = re.compile(r"version: \S+ (?P<comment># that of (?P<package>[\w-]+);.*)")
TAG = re.compile(r"(?P<package>.+)-v(?P<version>\d.*)")


class ReleaseError(Exception):
    """Why a release cannot be made, and what to do."""


@dataclass(frozen=True)
class Package:
    """One distribution of the repository, as its folder describes it."""

    folder: Path

    @property
    def project(self) -> dict[str, Any]:
        table: dict[str, Any] = tomllib.loads((self.folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        return table

    @property
    def name(self) -> str:
        return str(self.project["name"])

    @property
    def version_file(self) -> Path:
        module = self.name.replace("-", "_")
        return self.folder / "src" / module / "_version.py"

    @property
    def changelog(self) -> Path:
        return self.folder / "CHANGELOG.md"

    @property
    def version(self) -> Version:
        found = ASSIGNED.search(self.version_file.read_text(encoding="utf-8"))
        if found is None:
            raise ReleaseError(f'{self.version_file}: no line __version__ = "…".')
        return Version(found[1])

    def write_version(self, version: Version) -> None:
        text = self.version_file.read_text(encoding="utf-8")
        self.version_file.write_text(ASSIGNED.sub(f'__version__ = "{version}"', text), encoding="utf-8")

    def fragments(self) -> list[Path]:
        """What the changelog is made from."""
        return sorted((self.folder / "changelog.d").glob("*.md"))

    def is_in_changelog(self, version: Version) -> bool:
        return f"\n## {version} (" in self.changelog.read_text(encoding="utf-8")

    def requirements(self) -> Iterator[Requirement]:
        """Everything it declares, extras included."""
        extras = self.project.get("optional-dependencies", {})
        for lines in (self.project.get("dependencies", []), *extras.values()):
            yield from map(Requirement, lines)


def packages(root: Path) -> dict[str, Package]:
    """Name → package, for each folder of packages/ that has a pyproject.toml."""
    found = [Package(path.parent) for path in sorted(root.glob("packages/*/pyproject.toml"))]
    return {package.name: package for package in found}


def known_suffixes(root: Path) -> list[list[str]]:
    """How the name of a fragment may end: `.added.md` and its like. towncrier passes over any other."""
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["towncrier"]
    return [[f".{kind['directory']}", ".md"] for kind in settings["type"]]


def range_faults(root: Path, versions: dict[str, Version]) -> Iterator[str]:
    """The ranges between packages, the unpublished ones in tests/ included, that do not fit these versions."""
    dependents = [*packages(root).values(), *(Package(p.parent) for p in root.glob("tests/*/pyproject.toml"))]
    for package in dependents:
        for requirement in package.requirements():
            sibling, allowed = requirement.name, requirement.specifier
            if sibling not in versions or sibling == package.name:
                continue
            if not any(specifier.operator in ("<", "<=", "~=", "==") for specifier in allowed):
                yield f"{package.name} requires {requirement}: the range has no upper end."
            elif not allowed.contains(versions[sibling], prereleases=True):
                yield f"{package.name} requires {requirement}, which leaves out {sibling} {versions[sibling]}."


def check(root: Path, name: str, version: str) -> tuple[Package, Version]:
    """Whether this package can be released under this version.

    Raises:
        ReleaseError: It cannot.
    """
    known = packages(root)
    if name not in known:
        raise ReleaseError(f"there is no package {name!r}; there are {', '.join(known)}.")
    package = known[name]
    try:
        new = Version(version)
    except InvalidVersion:
        raise ReleaseError(f"{version!r} is not a version, such as 0.2.0 or 0.2.0rc1.") from None
    if str(new) != version or new.local:
        raise ReleaseError(f"write the version {version!r} as {new.public}.")
    if package.is_in_changelog(new):
        raise ReleaseError(f"{name} {new} is in {package.changelog.relative_to(root)} already.")
    if new < package.version:
        raise ReleaseError(f"{name} is at {package.version}, which is later than {new}.")
    if not package.fragments():
        raise ReleaseError(f"{name} has no fragment in changelog.d: there is nothing to tell about {new}.")
    if odd := [path.name for path in package.fragments() if path.suffixes[-2:] not in known_suffixes(root)]:
        endings = ", ".join("".join(suffixes) for suffixes in known_suffixes(root))
        raise ReleaseError(f"a fragment in changelog.d ends with one of {endings}; not {', '.join(odd)}.")
    versions = {other.name: other.version for other in known.values()} | {name: new}
    if faults := list(range_faults(root, versions)):
        raise ReleaseError("\n  ".join(["ranges do not fit, widen them first:", *faults]))
    return package, new


def prepare(root: Path, name: str, version: str) -> str:
    """Write the version file and the changelog of a package.

    Returns:
        The tag.
    """
    package, new = check(root, name, version)
    command = [sys.executable, "-m", "towncrier", "build", "--yes", "--version", str(new)]
    command += ["--config", str(root / "pyproject.toml"), "--dir", str(package.folder)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReleaseError(f"towncrier failed:\n{done.stdout}{done.stderr}")
    package.write_version(new)
    cite(root, package, new)
    return f"{name}-v{new}"


def cite(root: Path, package: Package, version: Version) -> None:
    """Write version and date of the package that CITATION.cff names in the comment of its line `version`."""
    file = root / "CITATION.cff"
    if not file.exists():
        return
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("date-released:")]
    for number, line in enumerate(lines):
        if match := CITED.fullmatch(line):
            if match["package"] == package.name:
                today = datetime.now(UTC).date()
                lines[number : number + 1] = [f"version: {version} {match['comment']}", f"date-released: {today}"]
                file.write_text("\n".join(lines) + "\n", encoding="utf-8")
            return


def repository_faults(root: Path, package: Package, repository: str) -> Iterator[str]:
    """What names another repository than the one that releases: readers would be sent to a stranger's."""
    for label, url in package.project.get("urls", {}).items():
        if not f"{url}/".startswith(f"{repository}/"):
            yield f"[project.urls] of {package.name}: {label} is {url}"
    for name in ("CITATION.cff", ".github/ISSUE_TEMPLATE/config.yml"):
        file = root / name
        if file.exists() and not re.search(rf"{re.escape(repository)}(/|$)", file.read_text("utf-8"), re.MULTILINE):
            yield f"{name} does not name it"


def check_tag(root: Path, tag: str, repository: str | None = None) -> str:
    """Whether the tree is what a tag says, and, if given, whether its addresses are those of this repository.

    Returns:
        The name of the package that the tag releases.

    Raises:
        ReleaseError: It is not.
    """
    match = TAG.fullmatch(tag)
    known = packages(root)
    if match is None or match["package"] not in known:
        raise ReleaseError(f"{tag!r} is no tag of a release, such as {next(iter(known))}-v0.1.0.")
    package = known[match["package"]]
    if str(package.version) != match["version"]:
        raise ReleaseError(f"the tag {tag} is on a tree where {package.name} is at {package.version}.")
    if not package.is_in_changelog(package.version):
        raise ReleaseError(f"{package.changelog.relative_to(root)} has nothing on {package.version}.")
    if faults := list(range_faults(root, {other.name: other.version for other in known.values()})):
        raise ReleaseError("\n  ".join(["ranges do not fit:", *faults]))
    if repository is not None and (faults := list(repository_faults(root, package, repository.rstrip("/")))):
        raise ReleaseError("\n  ".join([f"the repository is {repository}; correct what names another:", *faults]))
    return package.name


def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser("release", description="Prepare the release of a package, or check its tag.")
    parser.add_argument("package", nargs="?", help="such as losses-seg")
    parser.add_argument("version", nargs="?", help="such as 0.2.0")
    parser.add_argument("--tag", help="check this tag instead, and print the package it is for")
    parser.add_argument("--repository", help="with --tag: the address that all links have to begin with")
    given = parser.parse_args(arguments)
    if (given.tag is None) == (given.version is None) or (given.tag is not None and given.package is not None):
        parser.error("give a package and a version, or --tag with a tag")
    try:
        if given.tag is not None:
            print(check_tag(root, given.tag, given.repository))
            return 0
        tag = prepare(root, given.package, given.version)
    except ReleaseError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    print(f"Version file and changelog of {given.package} are written. Look at the changes, commit them, then tag:")
    print(tag)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
