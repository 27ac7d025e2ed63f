"""The first pass over a config: its names are checked against the registry and the constructors' signatures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from losses_core._annotations import misfit, read_numbers
from losses_core._class_weight import names_statistics, read_class_weight
from losses_core._foreign import parameter_hint
from losses_core._routing import check_inputs
from losses_core._signature import constructor_parameters
from losses_core._suggest import closest, shown, text_of
from losses_core._wrappers import WRAPPERS, Wrapper, wrapper_class
from losses_core.base_loss import BaseLoss
from losses_core.combined import CombinedLoss, Member, check_label
from losses_core.errors import ConfigError, RegistryError, config_error
from losses_core.registry import LOSSES

if TYPE_CHECKING:
    from losses_core.class_statistics import ClassStatistics

MAX_DEPTH = 64
MAX_NODES = 1_000_000
MAX_LOSSES = 10_000
MAX_FAULTS = 100
"""Bounds of a config, which may come from anywhere."""

OF_COMBINATION = ("weighting", "loss_weight")
"""Parameters of a combination, beside its losses."""

_FAULTY = object()


class TooManyFaults(Exception):
    """The bound on faults is reached."""


class Leaf(NamedTuple):
    """A loss to build, or one that was given."""

    path: str
    make: type[BaseLoss | Wrapper] | Member | Wrapper
    parameters: dict[str, Any]
    inputs: dict[str, str]


class Group(NamedTuple):
    """Losses to combine; without labels, each is labelled by its own."""

    path: str
    members: list[Node | None]
    labels: list[str] | None = None
    weighting: Any = None
    loss_weight: Any = 1.0


class Wrapped(NamedTuple):
    """A module around the loss that another node describes."""

    path: str
    make: type[Wrapper]
    parameters: dict[str, Any]
    inner: Leaf | Group


Node: TypeAlias = "Leaf | Group | Wrapped"


class Reader:
    """One pass over a config, gathering its faults."""

    def __init__(self) -> None:
        self.faults: list[ConfigError] = []
        self._nodes = self._losses = 0
        self._statistics: dict[str, ClassStatistics] = {}

    def fault(self, text: str, path: str, hint: str = "", cause: Exception | None = None) -> None:
        self.faults.append(config_error(text, path, hint, cause))
        if len(self.faults) == MAX_FAULTS:
            raise TooManyFaults

    def copy(self, config: Any, path: str, depth: int) -> Any:
        """The config with every mapping as a dict and every sequence as a list (a tuple stays one)."""
        self._nodes += 1
        if self._nodes == MAX_NODES:
            self.fault(f"has more than {MAX_NODES:,} entries.", path)
            raise TooManyFaults
        if isinstance(config, (str, bytes, bytearray)) or not isinstance(config, (Mapping, Sequence)):
            return config
        if depth == MAX_DEPTH:
            self.fault(f"nested more than {MAX_DEPTH} deep.", path)
            return None
        try:
            if isinstance(config, Mapping):
                return {key: self.copy(config[key], _at(path, key), depth + 1) for key in config}
            items = [self.copy(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(config)]
        except TooManyFaults:
            raise
        except Exception as error:  # the mapping may be anyone's: OmegaConf's raises where a value is missing
            self.fault(f"cannot be read: {text_of(error)}", path, cause=error)
            return None
        return tuple(items) if isinstance(config, tuple) else items

    def read(self, config: Any, path: str, hint: str = "") -> Node | None:
        """What to build for a config; None where there is nothing to go on with."""
        match config:
            case BaseLoss() | CombinedLoss() | Wrapper():
                self._count(path)
                return Leaf(path, config, {}, {})
            case str():
                return self._leaf(config, {}, path, path)
            case {"type": CombinedLoss.__name__, **parameters}:
                return self._weighted(parameters, path)
            case {"type": str(name), **parameters} if name in WRAPPERS:
                return self._wrapped(wrapper_class(name), parameters, path)
            case {"type": name, **parameters}:
                return self._leaf(name, parameters, path, f"{path}.type")
            case dict() if config:
                return self._labelled(config, path)
            case list() | tuple() if config:
                return Group(path, [self.read(item, f"{path}[{index}]") for index, item in enumerate(config)])
        expected = "the name of a loss, a mapping with 'type', a list of these, or a mapping of labels to these"
        if callable(config):
            hint = "A loss of your own derives from BaseLoss; in a config stands its name, or the loss itself."
        self.fault(f"expected {expected}; got {shown(config)}.", path, hint)
        return None

    def _labelled(self, config: dict[Any, Any], path: str) -> Group:
        """Terms with the keys of a mapping as labels."""
        for label in config:
            self._check(check_label, label, _at(path, label))
        hint = _hint_of_untyped(config)
        members = [
            # what belongs to the combination is no term: that it is no label was said above
            None if label in OF_COMBINATION else self.read(item, _at(path, label), hint)
            for label, item in config.items()
        ]
        return Group(path, members, list(config))

    def _weighted(self, given: dict[Any, Any], path: str) -> Group | None:
        """A combination with its type, which may have a weighting and a weight."""
        for key in given:
            if key not in ("losses", *OF_COMBINATION):
                hint = f"It has: losses, {', '.join(OF_COMBINATION)}. A loss of its own goes under 'losses'."
                self.fault(f"{CombinedLoss.__name__} has no parameter {shown(key)}.", _at(path, key), hint)
        if "losses" not in given:
            self.fault(f"{CombinedLoss.__name__} needs the parameter 'losses', which is not given.", path)
            return None
        loss_weight = self._number(given.get("loss_weight", 1.0), float, f"{path}.loss_weight")
        node = self.read(given["losses"], f"{path}.losses")
        if node is None:
            return None
        if not isinstance(node, Group) or node.weighting is not None or node.loss_weight != 1.0:
            node = Group(path, [node])
        return node._replace(path=path, weighting=given.get("weighting"), loss_weight=loss_weight)

    def _wrapped(self, cls: type[Wrapper], given: dict[Any, Any], path: str) -> Wrapped | None:
        """A loss that is computed in chunks, or for several layers."""
        known = signature(cls, eval_str=True).parameters
        if "loss" not in given:
            self.fault(f"{cls.__name__} needs the parameter 'loss', which is not given.", path)
        inner = self.read(given.pop("loss"), f"{path}.loss") if "loss" in given else None
        parameters = {key: self._value(cls, key, value, known, _at(path, key)) for key, value in given.items()}
        if isinstance(inner, Wrapped):
            self.fault(f"{cls.__name__} cannot hold {inner.make.__name__}.", f"{path}.loss")
        if inner is None or isinstance(inner, Wrapped):
            return None
        sound = {key: value for key, value in parameters.items() if value is not _FAULTY}
        return Wrapped(path, cls, sound, inner)

    def _count(self, path: str) -> None:
        self._losses += 1
        if self._losses > MAX_LOSSES:
            self.fault(f"has more than {MAX_LOSSES:,} losses.", path)
            raise TooManyFaults

    def _leaf(self, name: Any, given: dict[Any, Any], path: str, type_path: str) -> Leaf | None:
        self._count(path)
        if not isinstance(name, str):
            self.fault(f"expected the name of a registered loss, got {shown(name)}.", type_path)
            return None
        try:
            cls = LOSSES[name]
        except RegistryError as error:
            hint = "A config names registered losses only, never an import path." if "." in name else ""
            self.fault(error.text, type_path, hint, error)
            return None
        known = constructor_parameters(cls)
        inputs = self._inputs(cls, given.pop("inputs"), path) if "inputs" in given and "inputs" not in known else {}
        written = {}
        if "weight" in given and "weight" not in known:
            self._rename_weight(given, path, known)
            written["loss_weight"] = "weight"
        required = [key for key, parameter in known.items() if parameter.default is parameter.empty]
        for key in required:
            if key not in given:
                self.fault(f"{cls.__name__} needs the parameter {key!r}, which is not given.", path)
        parameters = {
            key: self._value(cls, key, value, known, _at(path, written.get(key, key))) for key, value in given.items()
        }
        # Without what has a fault the loss can still be built, though for nothing but the constructor's own opinion.
        sound = {key: value for key, value in parameters.items() if value is not _FAULTY}
        return Leaf(path, cls, sound, inputs) if sound.keys() >= set(required) else None

    def _value(self, cls: type, key: Any, value: Any, known: Mapping[str, Parameter], path: str) -> Any:
        if key not in known:
            hint = parameter_hint(cls.__name__, key, known).strip() or f"It has: {', '.join(known)}."
            self.fault(f"{cls.__name__} has no parameter {shown(key)}.", path, hint)
            return _FAULTY
        if names_statistics(key, value, known[key].annotation):
            return self._class_weight(value, path)
        return self._number(value, known[key].annotation, path)

    def _class_weight(self, given: dict[Any, Any], path: str) -> Any:
        def fault(key: Any, text: str, hint: str) -> None:
            self.fault(text, path if key is None else _at(path, key), hint)

        weights = read_class_weight(given, self._statistics, fault)
        return _FAULTY if weights is None else weights

    def _number(self, value: Any, annotation: Any, path: str) -> Any:
        value = read_numbers(value, annotation)
        if expected := misfit(value, annotation):
            self.fault(f"expected {expected}, got the string {shown(value)}.", path)
            return _FAULTY
        return value

    def _inputs(self, cls: type[BaseLoss], inputs: Any, path: str) -> dict[str, str]:
        if not isinstance(inputs, dict):
            self.fault(f"expected a mapping of arguments to paths, got {shown(inputs)}.", f"{path}.inputs")
            return {}
        try:
            check_inputs(cls, inputs)
        except ConfigError as error:
            self.fault(error.text, f"{path}.{error.path}", error.hint)
        return inputs

    def _rename_weight(self, given: dict[Any, Any], path: str, known: Mapping[str, Parameter]) -> None:
        value = given.pop("weight")
        if "loss_weight" in given:
            self.fault("this is another name for 'loss_weight', which is given as well. Keep one.", f"{path}.weight")
        elif isinstance(value, (list, tuple)):
            hint = "Weights of classes are 'class_weight'." if "class_weight" in known else ""
            self.fault(
                f"expected a number (another name for 'loss_weight'), got {shown(value)}.", f"{path}.weight", hint
            )
        else:
            given["loss_weight"] = value

    def _check(self, check: Callable[[Any], None], value: Any, path: str) -> None:
        try:
            check(value)
        except ConfigError as error:
            self.fault(error.text, path, error.hint)


def _at(path: str, key: Any) -> str:
    """The path of an entry: `loss.smooth`, or `loss['a.b']` for a key that would read as something else."""
    plain = isinstance(key, str) and len(key) <= 80 and key.replace("-", "_").isidentifier()
    return f"{path}.{key}" if plain else f"{path}[{shown(key)}]"


def _hint_of_untyped(config: dict[Any, Any]) -> str:
    """What to say of an entry that is no config, in a mapping without `type`."""
    hint = "A mapping without 'type' names its terms."
    if all(isinstance(item, (str, dict, list, tuple, BaseLoss, CombinedLoss)) for item in config.values()):
        return hint
    for key, item in config.items():
        if isinstance(item, str) and closest(key, ("type", "name", "loss", "class", "cls", "kind")) and item in LOSSES:
            return f"{hint} 'type' is missing: write type: {item} in place of {key}: {item}."
    return f"{hint} Is 'type' missing?"
