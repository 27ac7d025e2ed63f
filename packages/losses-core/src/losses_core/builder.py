"""From a config to a loss: `build_loss`, `build_multi_loss`.

Two steps. First the config is read and held against the registry and the constructors' signatures; then the losses are
built, from the innermost out. Both gather all faults instead of stopping at the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter
from typing import Any, NamedTuple, cast

from losses_core._annotations import misfit, read_floats
from losses_core._routing import check_inputs
from losses_core._signature import constructor_parameters
from losses_core._suggest import did_you_mean, shown
from losses_core.base_loss import BaseLoss
from losses_core.combined import CombinedLoss, Member, check_label, check_member, labelled
from losses_core.config import Config
from losses_core.errors import ConfigError, RegistryError, config_error
from losses_core.registry import LOSSES
from losses_core.weighting import build_weighting

__all__ = ["build_loss", "build_multi_loss", "find_faults"]

MAX_DEPTH = 64

_FAULTY = object()


def build_loss(config: Config) -> Member:
    """Build what a config describes.

    Args:
        config: A loss's name; a mapping with `type` and the parameters of that loss (`weight` is another name for
            `loss_weight`; `inputs` maps arguments to paths, see `CombinedLoss`); a list of configs; a mapping
            label → config; a mapping with `type: CombinedLoss`, `losses` and `weighting`; or a loss. Any `Mapping` and
            `Sequence` is accepted and none is modified.

    Returns:
        The loss: a `CombinedLoss` for a list, for a mapping of labels, and for a loss with `inputs`.

    Raises:
        ConfigError: The config has faults. The error is the first one, with its `.path`; the others are its notes.

    Example:
        >>> from losses_core import LOSSES, BaseLoss
        >>> @LOSSES.register(name="ExampleLoss", replace=True)
        ... class ExampleLoss(BaseLoss):
        ...     def _forward(self, pred, target):
        ...         return (pred - target).abs()
        >>> build_loss({"type": "ExampleLoss", "weight": 2}).loss_weight
        2
        >>> build_loss([{"type": "ExampleLoss"}, {"type": "ExampleLoss", "los_weight": 2}])
        Traceback (most recent call last):
        losses_core.errors.ConfigError: loss[1].los_weight: ExampleLoss has no parameter 'los_weight'. Did you mean ...
    """
    return _checked(*_built(config, "loss"))


def build_multi_loss(configs: Config) -> CombinedLoss:
    """Build a `CombinedLoss`, also from the config of a single loss.

    Args:
        configs: As for `build_loss`.

    Returns:
        The combined loss; of one term where the config describes a single loss.

    Raises:
        ConfigError: As for `build_loss`.
    """
    loss = _checked(*_built(configs, "loss", combine=True))
    return cast("CombinedLoss", loss)


def find_faults(config: Any, path: str = "loss") -> list[ConfigError]:
    """All faults of a config, found by building it.

    Args:
        config: As for `build_loss`.
        path: What the paths of the faults start with.

    Returns:
        One error for each fault, none for a config that can be built.
    """
    return _built(config, path)[1]


def _built(config: Any, path: str, combine: bool = False) -> tuple[Member | None, list[ConfigError]]:
    """The loss and no fault, or None and the faults."""
    reader = _Reader()
    config = reader.copy(config, path, 0)
    node = None if reader.faults else reader.read(config, path)
    if isinstance(node, _Leaf) and (node.inputs or (combine and not isinstance(node.make, CombinedLoss))):
        node = _Group(path, [node])
    loss = None if node is None else reader.build(node)
    return (None if reader.faults else loss), reader.faults


def _checked(loss: Member | None, faults: list[ConfigError]) -> Member:
    if loss is not None:
        return loss
    first, *others = faults
    for other in others:
        first.add_note(f"and {other}")
    raise first


class _Leaf(NamedTuple):
    """A loss to build, or one that was given."""

    path: str
    make: type[BaseLoss] | Member
    parameters: dict[str, Any]
    inputs: dict[str, str]


class _Group(NamedTuple):
    """Losses to combine; without labels, each is labelled by its own."""

    path: str
    members: list[_Leaf | _Group | None]
    labels: list[str] | None = None
    weighting: Any = None


class _Reader:
    """One pass over a config, gathering its faults."""

    def __init__(self) -> None:
        self.faults: list[ConfigError] = []

    def fault(self, text: str, path: str, hint: str = "", cause: Exception | None = None) -> None:
        self.faults.append(config_error(text, path, hint, cause))

    def copy(self, config: Any, path: str, depth: int) -> Any:
        """The config with every mapping as a dict and every sequence as a list (a tuple stays one)."""
        if isinstance(config, str | bytes | bytearray) or not isinstance(config, Mapping | Sequence):
            return config
        if depth == MAX_DEPTH:
            self.fault(f"nested more than {MAX_DEPTH} deep.", path)
            return None
        try:
            if isinstance(config, Mapping):
                return {key: self.copy(config[key], _at(path, key), depth + 1) for key in config}
            items = [self.copy(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(config)]
        except Exception as error:  # the mapping may be anyone's: OmegaConf's raises where a value is missing
            self.fault(f"cannot be read: {error}", path, cause=error)
            return None
        return tuple(items) if isinstance(config, tuple) else items

    def read(self, config: Any, path: str, hint: str = "") -> _Leaf | _Group | None:
        """What to build for a config; None where there is nothing to go on with."""
        match config:
            case BaseLoss() | CombinedLoss():
                return _Leaf(path, config, {}, {})
            case str():
                return self._leaf(config, {}, path, path)
            case {"type": CombinedLoss.__name__, **parameters}:
                return self._weighted(parameters, path)
            case {"type": name, **parameters}:
                return self._leaf(name, parameters, path, f"{path}.type")
            case dict() if config:
                for label in config:
                    self._check(check_label, label, _at(path, label))
                hint = "A mapping without 'type' names its terms."
                members = [self.read(item, _at(path, label), hint) for label, item in config.items()]
                return _Group(path, members, list(config))
            case list() | tuple() if config:
                return _Group(path, [self.read(item, f"{path}[{index}]") for index, item in enumerate(config)])
        expected = "the name of a loss, a mapping with 'type', a list of these, or a mapping of labels to these"
        if callable(config):
            hint = "A loss of your own derives from BaseLoss; in a config stands its name, or the loss itself."
        self.fault(f"expected {expected}; got {shown(config)}.", path, hint)
        return None

    def _weighted(self, given: dict[Any, Any], path: str) -> _Group | None:
        """A combination with its type written out, which may have a weighting."""
        for key in given:
            if key not in ("losses", "weighting"):
                hint = "It has: losses, weighting. A loss of its own goes under 'losses'."
                self.fault(f"{CombinedLoss.__name__} has no parameter {shown(key)}.", _at(path, key), hint)
        if "losses" not in given:
            self.fault(f"{CombinedLoss.__name__} needs the parameter 'losses', which is not given.", path)
            return None
        node = self.read(given["losses"], f"{path}.losses")
        group = _Group(path, [node]) if isinstance(node, _Leaf) else node
        return None if group is None else group._replace(path=path, weighting=given.get("weighting"))

    def _leaf(self, name: Any, given: dict[Any, Any], path: str, type_path: str) -> _Leaf | None:
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
        return _Leaf(path, cls, sound, inputs) if sound.keys() >= set(required) else None

    def _value(self, cls: type, key: Any, value: Any, known: Mapping[str, Parameter], path: str) -> Any:
        if key not in known:
            hint = did_you_mean(key, known).strip() if isinstance(key, str) else ""
            self.fault(f"{cls.__name__} has no parameter {shown(key)}.", path, hint or f"It has: {', '.join(known)}.")
            return _FAULTY
        value = read_floats(value, known[key].annotation)
        if expected := misfit(value, known[key].annotation):
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
        elif isinstance(value, list | tuple):
            hint = "Weights of classes are 'class_weight'." if "class_weight" in known else ""
            self.fault(
                f"expected a number (another name for 'loss_weight'), got {shown(value)}.", f"{path}.weight", hint
            )
        else:
            given["loss_weight"] = value

    def build(self, node: _Leaf | _Group) -> Member | None:
        """The loss of a node; None where it or a part of it has a fault; the other parts may have more."""
        if isinstance(node, _Group):
            return self._combine(node)
        if not isinstance(node.make, type):
            return node.make
        try:
            return node.make(**node.parameters)
        except Exception as error:  # whatever a constructor raises, its place in the config belongs to it
            name, text = node.make.__name__, str(error) or type(error).__name__
            self.fault(text if text.startswith(name) else f"{name}: {text}", node.path, cause=error)
            return None

    def _combine(self, group: _Group) -> Member | None:
        members = []
        for node in group.members:
            member = None if node is None else self.build(node)
            if node is not None and member is not None:
                self._check(check_member, member, node.path)
                if group.labels is None:
                    self._check(check_label, member.label, node.path)
                members.append(member)
        if self.faults:  # here or elsewhere: nothing will be returned
            return None
        losses = labelled(members) if group.labels is None else dict(zip(group.labels, members, strict=True))
        nodes = zip(losses, group.members, strict=True)
        inputs = {label: n.inputs for label, n in nodes if isinstance(n, _Leaf) and n.inputs}
        if group.weighting is None:
            return CombinedLoss(losses, inputs)
        path = f"{group.path}.weighting"
        try:
            return CombinedLoss(losses, inputs, build_weighting(group.weighting, path))
        except ConfigError as error:  # the labels that a weighting names are known to the combination only
            at = error.path if error.path.startswith(path) else f"{path}.{error.path}".rstrip(".")
            self.fault(error.text, at, error.hint)
            return None

    def _check(self, check: Callable[[Any], None], value: Any, path: str) -> None:
        try:
            check(value)
        except ConfigError as error:
            self.fault(error.text, path, error.hint)


def _at(path: str, key: Any) -> str:
    """The path of an entry: `loss.smooth`, or `loss['a.b']` for a key that would read as something else."""
    return f"{path}.{key}" if isinstance(key, str) and key.replace("-", "_").isidentifier() else f"{path}[{shown(key)}]"
