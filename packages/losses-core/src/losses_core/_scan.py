"""What the installed distributions declare, read from their metadata; nothing is imported."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint


class LossInfo(NamedTuple):
    """What is known of a loss without importing it.

    Attributes:
        name: The name that `LOSSES[name]` takes.
        target: Where the class is, as `module:Class`.
        distribution: The distribution that declares it; None for a class that was registered by hand.
        version: The version of that distribution.
        loaded: Whether the class has been imported through the registry.
    """

    name: str
    target: str
    distribution: str | None
    version: str | None
    loaded: bool


class Declared(NamedTuple):
    """One entry point: a name, and where the class behind it is."""

    name: str
    target: str
    distribution: str
    version: str

    @property
    def qualified(self) -> str:
        return f"{self.distribution}:{self.name}"

    @property
    def source(self) -> str:
        return f"{self.distribution} {self.version}"

    def load(self) -> object:
        """Import the object, from the top package down.

        An import of `a.b` locks `a.b` before it imports `a`, which may be importing `a.b` in another thread.
        """
        from importlib import import_module
        from importlib.metadata import EntryPoint

        parts = self.target.partition(":")[0].split(".")
        with _one_import_at_a_time():
            for depth in range(1, len(parts)):
                import_module(".".join(parts[:depth]))
            return EntryPoint(self.name, self.target, "").load()


_imports = threading.RLock()
PATIENCE = 30.0
"""Seconds to wait for the import of another thread."""


@contextmanager
def _one_import_at_a_time() -> Iterator[None]:
    """Keep threads from importing modules of one package at once, which may see each other's half-initialised.

    The wait ends, as a package that asks for a loss while it is imported may hold what the other thread waits for.
    """
    acquired = _imports.acquire(timeout=PATIENCE)
    try:
        yield
    finally:
        if acquired:
            _imports.release()


class Scan(NamedTuple):
    """All entry points of one group.

    Attributes:
        declared: Every name with what declares it: one entry, or several from different distributions.
        distributions: Name → version of the distributions that declare anything in the group.
        problems: Faults in metadata, as sentences.
        tasks: Distribution → its task, one of `TASKS`, where its keywords name one.
    """

    declared: Mapping[str, tuple[Declared, ...]]
    distributions: Mapping[str, str]
    problems: tuple[str, ...]
    tasks: Mapping[str, str]


TASKS = ("classification", "detection", "segmentation", "distillation")


def normalized(distribution: str) -> str:
    """The name as package indexes compare it: `Losses_Seg` and `losses-seg` are one distribution."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def scan(group: str) -> Scan:
    """Read the entry points of `group`. A distribution with faulty metadata is noted and left out."""
    from importlib import metadata

    declared: dict[str, tuple[Declared, ...]] = {}
    versions: dict[str, str] = {}
    problems: list[str] = []
    tasks: dict[str, str] = {}
    for distribution in metadata.distributions():
        try:
            entry_points = _entry_points(distribution, group)
            if not entry_points:
                continue
            name, version = _identity(distribution)
        except Exception as error:  # whatever is wrong with one package, the others must be found
            problems.append(f"A package in {distribution.locate_file('')} has faulty metadata: {error!r}.")
            continue
        if name in versions:  # an older copy further down sys.path
            continue
        versions[name] = version
        if task := _task(distribution):
            tasks[name] = task
        for entry_point in entry_points:
            entry = Declared(entry_point.name, _target(entry_point), name, version)
            others = declared.get(entry.name, ())
            if any(other.target == entry.target for other in others):
                continue  # identical twins, as an editable install beside a wheel
            if any(other.distribution == name for other in others):
                problems.append(f"{entry.source} declares {entry.name!r} twice; the first is used.")
                continue
            declared[entry.name] = (*others, entry)
    return Scan(declared, dict(sorted(versions.items())), tuple(problems), tasks)


def _entry_points(distribution: Distribution, group: str) -> list[EntryPoint]:
    # The text first: parsing the files of all distributions takes longer, and stumbles over one that is malformed.
    if group not in (distribution.read_text("entry_points.txt") or ""):
        return []
    return [entry_point for entry_point in distribution.entry_points if entry_point.group == group]


def _identity(distribution: Distribution) -> tuple[str, str]:
    fields = distribution.metadata
    # no get(): it is not part of the protocol
    name, version = (fields[field] if field in fields else "" for field in ("Name", "Version"))  # noqa: SIM401
    if not name:
        raise ValueError("it has no name")
    return normalized(name), version or "of unknown version"


def _task(distribution: Distribution) -> str | None:
    """The first task among the keywords: `object-detection` names one as well."""
    words = [word for line in distribution.metadata.get_all("Keywords", ()) for word in re.split(r"[,\s]+", line)]
    return next((task for word in words for task in TASKS if word.lower().rpartition("-")[2] == task), None)


def _target(entry_point: EntryPoint) -> str:
    """`module:Class`, without spaces and extras, so that equal targets compare equal."""
    return entry_point.value.partition("[")[0].replace(" ", "")
