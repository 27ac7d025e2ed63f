"""Which argument of a combined call goes to which of its losses."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from losses_core._options import weight_for
from losses_core._suggest import did_you_mean, printable, shown
from losses_core.base_loss import BaseLoss
from losses_core.errors import ConfigError, InputError
from losses_core.utils.weight_reduce import Reduction

REQUIRED = ("pred", "target")
OPTIONAL = ("weight", "avg_factor", "reduction_override")


class Evaluated(NamedTuple):
    """A term of a combination before its reduction is finished; `owners` are the losses whose weights multiply it."""

    label: str
    member: BaseLoss
    arguments: dict[str, Any]
    part: Reduction
    owners: tuple[Any, ...]

    def owned_by(self, owner: Any) -> Evaluated:
        """The same as a term of an outer combination."""
        return Evaluated(self.label, self.member, self.arguments, self.part, (*self.owners, owner))

    def weight(self, value: Tensor) -> Any:
        """The product of the weights, as numbers, or as a 0-d tensor."""
        product = weight_for(self.owners[0].loss_weight, value)
        for owner in self.owners[1:]:
            product = product * weight_for(owner.loss_weight, value)
        return product


def is_routed(value: Any, labels: Iterable[str]) -> bool:
    """Whether an argument is meant to be taken apart: a mapping with at least one of the labels."""
    return isinstance(value, Mapping) and any(label in value for label in labels)


def refuse_unknown(name: str, value: Mapping[str, Any], labels: Collection[str]) -> None:
    """Raise where a mapping that may omit labels has an unknown key: it would be ignored silently."""
    for key in value:
        if key not in labels:
            raise InputError(
                f"{name} has an entry for {key!r}, but there is no such term.{did_you_mean(str(key), labels)} "
                f"The terms are: {', '.join(labels)}."
            )


def refuse_unknown_keywords(names: Iterable[str], known: Collection[str]) -> None:
    """Raise for a keyword of a call that no term declares."""
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known)
            raise TypeError(f"CombinedLoss: unknown keyword {name!r}: no term declares it.{hint}")


def arguments_of(
    label: str, call: Mapping[str, Any], routed: Collection[str], accepted: Collection[str]
) -> dict[str, Any]:
    """What of a call goes to one member; `routed` are the arguments that are taken apart by label."""
    mine = {}
    for name, value in call.items():
        accepts = name in REQUIRED or name in accepted
        if name in routed:
            if label not in value:
                continue
            if not accepts:
                raise TypeError(f"CombinedLoss: the term {label!r} has no keyword {name!r}.")
            mine[name] = value[label]
        elif accepts:
            mine[name] = value
    return mine


def look_up(data: Any, path: tuple[str, ...], term: str, name: str) -> Any:
    """The value at `path` in nested mappings; a number leads into a list.

    Raises:
        InputError: The path leads nowhere.
    """
    found = data
    for depth, key in enumerate(path):
        if isinstance(found, Mapping) and key in found:
            found = found[key]
        elif isinstance(found, (list, tuple)) and key.isdecimal() and int(key) < len(found):
            found = found[int(key)]
        else:
            raise InputError(_dead_end(found, path, depth), where=f"term {term!r}: inputs.{name}")
    return found


def _dead_end(found: Any, path: tuple[str, ...], depth: int) -> str:
    where = repr(".".join(path[:depth])) if depth else "the data"
    start = f"no {'.'.join(path)!r} in the data:"
    if isinstance(found, Mapping):
        keys = [str(key) for key in found]
        return f"{start} {where} has the keys {', '.join(keys) or '(none)'}.{did_you_mean(path[depth], keys)}"
    if isinstance(found, (list, tuple)):
        return f"{start} {where} is a {type(found).__name__} of {len(found)}, and {path[depth]!r} is no index into it."
    return f"{start} {where} is a {type(found).__name__}, expected a mapping with {path[depth]!r}."


def evaluate(member: BaseLoss, arguments: dict[str, Any], term: str) -> Evaluated:
    """A member's term; an error names it."""
    for name in REQUIRED:
        if arguments.get(name) is None:
            raise InputError(
                f"expected a {name}, got none: give one for this label, or declare inputs.", f"term {term!r}"
            )
    try:
        return Evaluated(term, member, arguments, member._evaluate(**arguments), (member,))
    except InputError as error:
        error.where = f"term {term!r}: {error.where}"
        raise


def normalizer_of(member: BaseLoss, arguments: dict[str, Any], term: str) -> Tensor:
    """A member's normalizer; an error names the term."""
    if arguments.get("target") is None:
        raise InputError("expected a target, got none: give one for this label.", f"term {term!r}")
    arguments.pop("avg_factor", None)  # of inputs
    try:
        return member.normalizer(**arguments)
    except InputError as error:
        error.where = f"term {term!r}: {error.where}"
        raise


def check_inputs(cls: type, inputs: Mapping[Any, Any]) -> None:
    """Refuse inputs that lack `pred` or `target`, or name an argument that the loss does not take.

    Raises:
        ConfigError: The inputs do not fit the loss.
    """
    if not issubclass(cls, BaseLoss):
        raise ConfigError("a combined loss takes no inputs; give them to its terms.", "inputs")
    known = [*REQUIRED, "weight", "avg_factor", *sorted(cls.call_keywords())]
    for name, path in inputs.items():
        if name not in known:
            hint = did_you_mean(name, known)
            raise ConfigError(
                f"{cls.__name__} has no argument {shown(name)}.{hint}",
                f"inputs.{printable(name, 80)}",
                f"It takes {', '.join(known)}.",
            )
        if not isinstance(path, str) or not all(path.split(".")):
            raise ConfigError(f"expected a path such as 'student.logits', got {shown(path)}.", f"inputs.{name}")
    for name in REQUIRED:
        if name not in inputs:
            raise ConfigError(f"expected an entry for {name!r}, got: {', '.join(inputs) or 'none'}.", "inputs")
