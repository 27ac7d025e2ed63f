"""Members of a combination that ignore different labels of one target."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from losses_core._routing import Evaluated
from losses_core._signature import constructor_parameters
from losses_core.utils.value_checks import values_are_checked
from losses_core.utils.warn import warn_user


def indices_differ(losses: Iterable[nn.Module]) -> bool:
    """Whether losses have different `ignore_index`; None, nothing is ignored, goes with any."""
    return len({getattr(loss, "ignore_index", None) for loss in losses} - {None}) > 1


def warn_of_different_indices(terms: Sequence[Evaluated]) -> bool:
    """Warn where terms get one target, ignore different labels of it, and one of them does so by default.

    A label that one term ignores is none of the classes of the other. Where values are looked at that is an error that
    names the label, and nothing is said here.

    Returns:
        Whether it has warned.
    """
    by_target: dict[int, list[Evaluated]] = {}
    for term in terms:
        target = term.arguments["target"]
        if isinstance(target, Tensor) and not values_are_checked(target) and _index_of(term) is not None:
            by_target.setdefault(id(target), []).append(term)
    for group in by_target.values():
        if len({_index_of(term) for term in group}) > 1 and any(map(_is_default, group)):
            listed = ", ".join(f"{term.label!r} ignores {_index_of(term)}" for term in group)
            warn_user(
                f"terms with one target ignore different labels: {listed}. A label that one ignores is out of range "
                "for the other. Give all the same ignore_index, in the config or at the call; None ignores nothing."
            )
            return True
    return False


def _index_of(term: Evaluated) -> Any:
    return term.arguments.get("ignore_index", getattr(term.member, "ignore_index", None))


def _is_default(term: Evaluated) -> bool:
    parameter = constructor_parameters(type(term.member)).get("ignore_index")
    return parameter is not None and parameter.default == _index_of(term)
