"""A combination as a tree of losses: each gets the arguments of a call that are meant for it."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

from losses_core._members import LabelledLosses
from losses_core._normalizers import Normalizers
from losses_core._routing import (
    OPTIONAL,
    REQUIRED,
    Evaluated,
    arguments_of,
    evaluate,
    is_routed,
    look_up,
    normalizer_of,
    refuse_unknown,
    refuse_unknown_keywords,
)

if TYPE_CHECKING:
    from losses_core.combined import Member


class RoutedLosses(LabelledLosses):
    """The part of `losses_core.CombinedLoss` that asks its members."""

    _paths: dict[str, dict[str, tuple[str, ...]]]
    _accepted: dict[str, frozenset[str]]
    _keywords: frozenset[str]

    def normalizer(self, target: Any, weight: Any = None, *, num_classes: Any = None, **kwargs: Any) -> Normalizers:
        """What each member's ``mean`` divides by, before the forward: see `losses_core.BaseLoss.normalizer`.

        Args:
            target: For every member, or a mapping label → target, or the nested mapping that `inputs` read.
            weight: Sample weights, likewise.
            num_classes: C for targets of class indices, likewise.
            **kwargs: Keywords of the members, likewise.

        Returns:
            Label → normalizer, which `avg_factor` takes; they add up over micro-batches, with `sum` too.

        Raises:
            InputError: A member has none, and the error names its term.
        """
        call = {"target": target, "weight": weight, "num_classes": num_classes}
        self.check_keywords(kwargs)
        given = {name: value for name, value in (call | kwargs).items() if value is not None}
        return self._normalizers(given, target, "")

    def _normalizers(self, call: dict[str, Any], data: Any, prefix: str) -> Normalizers:
        found = Normalizers()
        for label, member, mine in self._routed(call, data, prefix, {"num_classes"}):
            mine.pop("pred", None)
            if isinstance(member, RoutedLosses):
                found[label] = member._normalizers({"target": None, **mine}, data, f"{prefix}{label}.")
            else:
                found[label] = normalizer_of(member, mine, prefix + label)
        return found

    def check_keywords(self, names: Iterable[str]) -> None:
        """Refuse a keyword that no member declares."""
        refuse_unknown_keywords(names, self._keywords)

    def _evaluate_all(self, call: dict[str, Any], data: Any, prefix: str) -> list[Evaluated]:
        found = []
        for label, member, mine in self._routed(call, data, prefix):
            if isinstance(member, RoutedLosses):
                inner = member._evaluate_all({"pred": None, "target": None, **mine}, data, f"{prefix}{label}.")
                found += [term.owned_by(member) for term in inner]
            else:
                found.append(evaluate(member, mine, prefix + label))
        return found

    def _routed(
        self, call: dict[str, Any], data: Any, prefix: str, of_all: AbstractSet[str] = frozenset()
    ) -> list[tuple[str, Member, dict[str, Any]]]:
        """Label, member, and the arguments that go to it; every member accepts those named in ``of_all``."""
        labels = self.keys()
        routed = [name for name, value in call.items() if is_routed(value, labels)]
        for name in routed:
            if name not in REQUIRED:  # of these a member that finds nothing complains itself
                refuse_unknown(name, call[name], labels)
        found = []
        for label, member in self.items():
            accepted = self._accepted[label].union(of_all) if of_all else self._accepted[label]
            mine = arguments_of(label, call, routed, accepted)
            for name, path in self._paths.get(label, {}).items():
                if name in call or name not in REQUIRED:
                    mine[name] = look_up(data, path, prefix + label, name)
            found.append((label, member, mine))
        return found


def accepted_by(member: Member) -> frozenset[str]:
    """The keywords that go to a member."""
    if isinstance(member, RoutedLosses):
        return member._keywords
    return type(member).call_keywords().union(OPTIONAL)
