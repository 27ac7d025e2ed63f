"""What was counted, as it is stored."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.accelerator.counting import Figures
from bench.results import DEFINITION, OURS, rounded

MEASURES = ("kernels", "bytes", "seconds", "peak")
"""What is compared with other libraries."""


@dataclass
class Implementation:
    """One implementation of a case.

    Attributes:
        state: as of `bench.results.Contender`.
        device: ``meta``, or ``cpu`` where it reads values.
        note: why figures are missing.
        figures: by the name of the setting.
    """

    state: str
    device: str = "meta"
    note: str = ""
    figures: dict[str, Figures] = field(default_factory=dict)


@dataclass
class CaseCount:
    """One case.

    Attributes:
        shapes: of pred, by the name of the setting.
    """

    name: str
    package: str
    shapes: dict[str, list[int]] = field(default_factory=dict)
    implementations: dict[str, Implementation] = field(default_factory=dict)

    def ours(self, setting: str) -> Figures | None:
        """This library's figures; None where the case has no such size."""
        return self.implementations[OURS].figures.get(setting)

    def definition(self, setting: str) -> Figures | None:
        """Those of the definition, where a kernel runs otherwise."""
        found = self.implementations.get(DEFINITION)
        return found.figures.get(setting) if found else None

    def best(self, setting: str, measure: str) -> tuple[str, float] | None:
        """The correct other library with the lowest figure, and that figure."""
        found = {
            name: float(getattr(figures, measure))
            for name, other in self.implementations.items()
            if name not in (OURS, DEFINITION) and other.state == "agrees" and (figures := other.figures.get(setting))
        }
        name = min(found, key=found.__getitem__, default=None)
        return None if name is None else (name, found[name])

    def ratio(self, setting: str, measure: str) -> float | None:
        """This library's figure over the lowest one of a correct other library."""
        ours, best = self.ours(setting), self.best(setting, measure)
        return None if ours is None or best is None else getattr(ours, measure) / best[1]


@dataclass
class Table:
    """All cases."""

    metadata: dict[str, Any]
    cases: dict[str, CaseCount]

    def updated(self, metadata: Mapping[str, Any], cases: Iterable[CaseCount]) -> Table:
        """This table with some cases replaced; implementations that were not counted again stay."""
        merged = dict(self.cases)
        for case in cases:
            before = merged.get(case.name)
            if before is not None:
                others = {n: i for n, i in before.implementations.items() if n not in (OURS, DEFINITION)}
                case.implementations |= {n: i for n, i in others.items() if n not in case.implementations}
            merged[case.name] = case
        return Table({**self.metadata, **metadata}, merged)

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(rounded(asdict(self)), indent=1, ensure_ascii=False)
        # a line for the figures of a setting, so that a diff shows them together
        text = re.sub(r"[{\[][^{}\[\]]*[}\]]", lambda found: re.sub(r"\s*\n\s*", " ", found[0]), text)
        path.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Table:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return cls(stored["metadata"], {name: _case(case) for name, case in stored["cases"].items()})


def _case(stored: dict[str, Any]) -> CaseCount:
    implementations = {
        name: Implementation(
            **{**one, "figures": {setting: Figures(**figures) for setting, figures in one["figures"].items()}}
        )
        for name, one in stored["implementations"].items()
    }
    return CaseCount(**{**stored, "implementations": implementations})
