"""From a config to a loss: `build_loss`, `build_multi_loss`.

Two steps. First the config is read and checked against the registry and the constructors' signatures (`_reading`); then
the losses are built, from the innermost out. Both gather all faults instead of stopping at the first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, cast

from losses_core._reading import Group, Leaf, Node, Reader, TooManyFaults, Wrapped
from losses_core._suggest import text_of
from losses_core.base_loss import BaseLoss
from losses_core.combined import CombinedLoss, Member, check_label, check_member, labelled
from losses_core.config import Config
from losses_core.errors import ConfigError
from losses_core.weighting import build_weighting

if TYPE_CHECKING:
    from losses_core.chunked import ChunkedLoss
    from losses_core.layered import LayeredLoss

AnyLoss: TypeAlias = "BaseLoss | CombinedLoss | ChunkedLoss | LayeredLoss"

__all__ = ["build_loss", "build_multi_loss", "find_faults"]


def build_loss(config: Config) -> AnyLoss:
    """Build a loss from its config.

    Args:
        config: A loss's name; a mapping with `type` and the parameters of that loss (`weight` is another name for
            `loss_weight`; `inputs` maps arguments to paths, see `CombinedLoss`); a list of configs; a mapping
            label → config; a mapping with `type: CombinedLoss`, `losses`, and if wanted `weighting` and `loss_weight`;
            or a loss. Any `Mapping` and `Sequence` is accepted and none is modified.

    Returns:
        The loss: a `CombinedLoss` for a list, for a mapping of labels, and for a loss with `inputs`; a `ChunkedLoss` or
        `LayeredLoss` where the type is one of these.

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


def _built(config: Any, path: str, combine: bool = False) -> tuple[AnyLoss | None, list[ConfigError]]:
    """The loss and no fault, or None and the faults."""
    builder, loss = _Builder(), None
    try:
        config = builder.copy(config, path, 0)
        node = None if builder.faults else builder.read(config, path)
        combined = isinstance(node, Group) or (isinstance(node, Leaf) and isinstance(node.make, CombinedLoss))
        if combine and node is not None and not combined:
            node = Group(path, [node])
        if isinstance(node, Leaf) and node.inputs:
            node = Group(path, [node])
        loss = None if node is None else builder.build(node)
    except TooManyFaults:
        builder.faults.append(ConfigError("has more faults, which are not listed.", path))
    return (None if builder.faults else loss), builder.faults


def _checked(loss: AnyLoss | None, faults: list[ConfigError]) -> AnyLoss:
    if loss is not None:
        return loss
    first, *others = faults
    for other in others:
        first.add_note(f"and {other}")
    raise first


class _Builder(Reader):
    """The second pass, over what was read."""

    def build(self, node: Node) -> Any:
        """The loss of a node; None where it or a part of it has a fault; the other parts may have more."""
        if isinstance(node, Wrapped):
            inner = self.build(node.inner)
            if inner is None:
                return None
            node = Leaf(node.path, node.make, {"loss": inner, **node.parameters}, {})
        if isinstance(node, Group):
            return self._combine(node)
        if not isinstance(node.make, type):
            return node.make
        try:
            return node.make(**node.parameters)
        except Exception as error:  # whatever a constructor raises, its place in the config belongs to it
            name, text = node.make.__name__, text_of(error) or type(error).__name__
            self.fault(text if text.startswith(name) else f"{name}: {text}", node.path, cause=error)
            return None

    def _combine(self, group: Group) -> Member | None:
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
        inputs = {label: n.inputs for label, n in nodes if isinstance(n, Leaf) and n.inputs}
        where = f"{group.path}.weighting"
        try:
            weighting = None if group.weighting is None else build_weighting(group.weighting, where)
            return CombinedLoss(losses, inputs, weighting, group.loss_weight)
        except ConfigError as error:  # the labels that a weighting names are known to the combination only
            at = error.path if error.path.startswith(where) or not error.path else f"{where}.{error.path}"
            self.fault(error.text, at or group.path, error.hint)
        except TypeError as error:
            self.fault(text_of(error), group.path, cause=error)
        return None
