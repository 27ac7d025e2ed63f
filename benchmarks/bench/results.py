"""What a run finds, as it is stored."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.stats import Spread

OURS = "losses"
"""The name of this library among those of its peers."""
DEFINITION = "definition"
"""The name of this library's loss by its definition, without kernels."""


@dataclass
class Contender:
    """One implementation in one case.

    Attributes:
        state: ``agrees``; ``variant``, of another definition; ``disagrees``; ``missing``; ``fails``.
        note: how the variant differs; what failed.
        value_error: distance of the value from the float64 result, relative to it.
        gradient_error: largest distance of the gradient, relative to the largest gradient.
        eager_ms: time of a forward and a backward.
        eager_ratio: time of ours over that of this one.
        saved: bytes that the forward leaves allocated for the backward, beyond pred and target, over those of pred.
        peak: most bytes allocated at once in a step, beyond pred and target, over those of pred.
        syncs: operations of a step that would make the host wait for a device.
        breaks: graph breaks under torch.compile; None where it fails.
        recompilations: compilations after the first over further batch sizes, with ``dynamic=True``.
        compiled_note: why there is no compiled time, where that needs an explanation.
        compiled_ms: time under Inductor.
        compiled_ratio: time of ours compiled over that of this one compiled.
        compiled_over_eager: time of this one compiled over that of this one eager, in the same rounds.
    """

    state: str
    note: str = ""
    value_error: float | None = None
    gradient_error: float | None = None
    eager_ms: Spread | None = None
    eager_ratio: Spread | None = None
    saved: float | None = None
    peak: float | None = None
    syncs: int | None = None
    breaks: int | None = None
    recompilations: int | None = None
    compiled_note: str = ""
    compiled_ms: Spread | None = None
    compiled_ratio: Spread | None = None
    compiled_over_eager: Spread | None = None


@dataclass
class CaseResult:
    """One case.

    Attributes:
        kernels: of this library that run instead of definitions.
        floor_ms: time of the copy that moves as many bytes as a step must.
        over_floor: time of ours over that.
        compiled_over_eager_peer: time of ours compiled over that of the fastest eager peer.
        seconds: processor time of each stage of the measurement.
    """

    name: str
    package: str
    config: dict[str, Any]
    shape: list[int]
    elementwise: bool
    contenders: dict[str, Contender] = field(default_factory=dict)
    rounds: int = 0
    compiled_rounds: int = 0
    kernels: list[str] = field(default_factory=list)
    floor_ms: Spread | None = None
    over_floor: Spread | None = None
    compiled_over_eager_peer: Spread | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def ours(self) -> Contender:
        return self.contenders[OURS]

    @property
    def definition(self) -> Contender | None:
        """This library's loss by its definition; None where no kernel runs."""
        return self.contenders.get(DEFINITION)

    def fastest(self, *, compiled: bool = False) -> str | None:
        """The fastest peer that agrees with ours."""
        attribute = "compiled_ms" if compiled else "eager_ms"
        times = {
            name: time.median
            for name, contender in self.contenders.items()
            if name not in (OURS, DEFINITION)
            and contender.state == "agrees"
            and (time := getattr(contender, attribute)) is not None
        }
        return min(times, key=times.__getitem__) if times else None


@dataclass
class Report:
    """A run: its metadata and its cases."""

    metadata: dict[str, Any]
    cases: list[CaseResult]

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rounded(asdict(self)), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Report:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return cls(stored["metadata"], [_case(case) for case in stored["cases"]])


def _case(stored: dict[str, Any]) -> CaseResult:
    given = {key: _spread(value) for key, value in stored.items()}
    given["contenders"] = {
        name: Contender(**{key: _spread(value) for key, value in contender.items()})
        for name, contender in stored["contenders"].items()
    }
    return CaseResult(**given)


def _spread(value: Any) -> Any:
    return Spread(**value) if isinstance(value, dict) and set(value) == {"median", "low", "high"} else value


def rounded(value: Any) -> Any:
    """Numbers to the digits that mean something."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list | tuple) else value
