"""`CombinedLoss`: several losses, weighted and summed, each under a label."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from losses_core._ignored import indices_differ, warn_of_different_indices
from losses_core._options import A_NAME, check_weight, is_name, number_of, weight_for
from losses_core._routed import RoutedLosses, accepted_by
from losses_core._routing import check_inputs
from losses_core._suggest import did_you_mean, shown
from losses_core._terms import LossTerms
from losses_core.base_loss import BaseLoss
from losses_core.distributed import compute_all
from losses_core.errors import ConfigError, InputError
from losses_core.weighting import Weighting

__all__ = ["CombinedLoss", "LossTerms", "Member", "check_label", "check_member", "labelled"]

Member: TypeAlias = "BaseLoss | CombinedLoss"


class CombinedLoss(RoutedLosses):
    r"""The weighted sum of several losses.

    .. math::
        L = \sum_k w_k \, L_k

    with :math:`w_k` the ``loss_weight`` of the member :math:`L_k` times that of the combination, read at each call, so
    that both may be scheduled. Members may be combined losses themselves. The labels are attribute names too:
    ``criterion.dice`` is a member.

    Args:
        losses: Label → loss, or a list of losses, labelled by their own ``label`` (``_2``, ``_3`` on repeats).
        inputs: Label → {argument: dotted path}: such a member takes its arguments out of the one nested mapping that
            the call is given instead of ``pred``.
        weighting: How much each term counts beyond its ``loss_weight``, see `losses_core.weighting`. Default: None.
        loss_weight: Multiplies every term, what a weighting adds too; an attribute, as that of any loss. Default: 1.0.

    Shape:
        - ``pred``, ``target`` and every keyword: as the members take them. A mapping with labels as keys is taken
          apart, each member getting its own; anything else goes to every member (a keyword to those that declare it).
        - result: a scalar.

    Raises:
        ConfigError: No member, a label that a module cannot hold, a member with ``reduction='none'``, or faulty inputs.

    Warns:
        UserWarning: Once, where members get one target but ignore different labels by default, as -100 and 255, on a
            device where values are not looked at.

    Example:
        >>> import torch
        >>> class AbsoluteLoss(BaseLoss):
        ...     def _forward(self, pred, target):
        ...         return (pred - target).abs()
        >>> class SquaredLoss(BaseLoss):
        ...     def _forward(self, pred, target):
        ...         return (pred - target) ** 2
        >>> criterion = CombinedLoss([AbsoluteLoss(), SquaredLoss(loss_weight=0.5)])
        >>> criterion(torch.full((3,), 2.0), torch.zeros(3))
        tensor(4.)
        >>> dict(criterion.terms(torch.full((3,), 2.0), torch.zeros(3)))
        {'absolute': tensor(2.), 'squared': tensor(2.)}
    """

    inputs: dict[str, dict[str, str]]
    weighting: Weighting | None
    _labels: tuple[str, ...]
    _indices_differ: bool

    label = "combined"
    """The name of this loss where it stands in a list."""

    loss_name = "loss_combined"
    """The name under which a head of mmseg gives its value to mmengine."""

    loss_weight: Any
    """A number; or a tensor, which may be learned."""

    def __init__(
        self,
        losses: Mapping[str, Member] | Sequence[Member],
        inputs: Mapping[str, Mapping[str, str]] | None = None,
        weighting: Weighting | None = None,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.loss_weight = check_weight(self, loss_weight)
        members = dict(losses) if isinstance(losses, Mapping) else labelled(losses)
        if not members:
            raise ConfigError("expected at least one loss to combine.")
        for label, member in members.items():
            check_label(label)
            check_member(member)
            self.add_module(label, member)
        self._labels = tuple(members)
        self._accepted = {label: accepted_by(member) for label, member in members.items()}
        self._keywords = frozenset().union(*self._accepted.values())
        self.inputs = {label: dict(paths) for label, paths in (inputs or {}).items()}
        for label, paths in self.inputs.items():
            if label not in members:
                raise ConfigError(f"inputs: there is no term {label!r}.{did_you_mean(label, members)}")
            check_inputs(type(members[label]), paths)
        self._paths = {
            label: {name: tuple(path.split(".")) for name, path in paths.items()}
            for label, paths in self.inputs.items()
        }
        if weighting is not None:
            weighting.bind(self.term_labels())
        self.weighting = weighting
        self._indices_differ = indices_differ(self.modules())

    def term_labels(self) -> list[str]:
        """The labels of all terms, those of nested losses joined with dots."""
        labels = []
        for label, member in self.items():
            nested = member.term_labels() if isinstance(member, CombinedLoss) else [""]
            labels += [f"{label}.{inner}" if inner else label for inner in nested]
        return labels

    def forward(
        self,
        pred: Any,
        target: Any = None,
        weight: Any = None,
        avg_factor: Any = None,
        reduction_override: Any = None,
        **kwargs: Any,
    ) -> Tensor:
        """The weighted sum of the members.

        Args:
            pred: For every member, or a mapping label → prediction, or the nested mapping that `inputs` read.
            target: Likewise; not needed by members with `inputs`.
            weight: Sample weights for every member, or a mapping label → weights.
            avg_factor: Denominator of `mean`, likewise.
            reduction_override: Reduction for this call, likewise.
            **kwargs: Keywords of the members, likewise.

        Returns:
            A scalar.

        Raises:
            InputError: An argument is missing for a member, or does not fit it.
            TypeError: No member declares a keyword.
        """
        return self.terms(pred, target, weight, avg_factor, reduction_override, **kwargs).total

    def terms(
        self,
        pred: Any,
        target: Any = None,
        weight: Any = None,
        avg_factor: Any = None,
        reduction_override: Any = None,
        **kwargs: Any,
    ) -> LossTerms:
        """The terms by label and their sum, from one evaluation of each member; arguments as of `forward`.

        Returns:
            Label → weighted term, the labels of nested losses joined with dots.
        """
        call = {"pred": pred, "target": target}
        optional = {"weight": weight, "avg_factor": avg_factor, "reduction_override": reduction_override}
        call.update({name: value for name, value in optional.items() if value is not None})
        self.check_keywords(kwargs)
        found = self._evaluate_all({**call, **kwargs}, pred, "")
        if self._indices_differ and not torch.compiler.is_compiling() and warn_of_different_indices(found):
            self._indices_differ = False
        # All members first, then all divisions: what the denominators need from other ranks goes in one message.
        labels = [term.label for term in found]
        raw = dict(zip(labels, compute_all([term.part for term in found], labels), strict=True))
        for term in found:
            if raw[term.label].ndim:
                given = f"reduction={term.part.reduction!r} gives shape {tuple(raw[term.label].shape)}"
                raise InputError(f"term {term.label!r}: {given} and a sum needs a scalar; use 'mean' or 'sum'.")
        weights = {term.label: term.weight(raw[term.label]) for term in found}
        if self.weighting is None:
            return LossTerms(raw, {label: weight * self._weight(raw[label]) for label, weight in weights.items()})
        terms: LossTerms = self.weighting(raw, weights)
        return terms.times(self._weight(terms.total))

    def step(self, position: float | None = None) -> None:
        """Advance the schedule by one step, if there is one: call it after each step of the optimizer.

        Args:
            position: Where the training is now, in the unit of the schedule, instead of one step further: see
                `losses_core.ScheduledWeighting`.
        """
        if self.weighting is not None:
            self.weighting.step(position)
        for member in self.values():
            member.step(position)

    def _weight(self, value: Tensor) -> Any:
        return weight_for(self.loss_weight, value)

    def to_config(self) -> dict[str, Any]:
        """The config from which `build_loss` builds this loss again: plain numbers, strings, lists and mappings."""
        config: dict[str, Any] = {label: member.to_config() for label, member in self.items()}
        for label, paths in self.inputs.items():
            config[label]["inputs"] = dict(paths)
        loss_weight = number_of(self.loss_weight)
        if self.weighting is None and loss_weight == 1:
            return config
        own = {} if loss_weight == 1 else {"loss_weight": loss_weight}
        config = {"type": type(self).__name__, "losses": config, **own}
        return config if self.weighting is None else config | {"weighting": self.weighting.to_config()}

    def extra_repr(self) -> str:
        return "" if (weight := number_of(self.loss_weight)) == 1 else f"loss_weight={weight}"


def labelled(losses: Any) -> dict[str, Member]:
    """A list of losses by label: each its own, with `_2`, `_3` where that is taken."""
    if isinstance(losses, str) or not isinstance(losses, Sequence):
        raise ConfigError(f"expected a mapping or a list of losses, got {shown(losses)}.")
    found: dict[str, Member] = {}
    taken: Counter[str] = Counter()
    for loss in losses:
        check_member(loss)
        label = own = loss.label
        while label in found:
            taken[own] += 1
            label = f"{own}_{taken[own] + 1}"
        found[label] = loss
    return found


def check_label(label: object) -> None:
    """Refuse what `nn.Module` cannot hold as the name of a member, and `total`, which is the sum's.

    Raises:
        ConfigError: The label cannot be used.
    """
    if not isinstance(label, str):
        raise ConfigError(f"expected a string as label, got {shown(label)}.")
    if not label or "." in label:
        raise ConfigError(f"{shown(label)} cannot be a label: expected a name without dots.")
    if not is_name(label):
        raise ConfigError(f"{shown(label)} cannot be a label: expected {A_NAME}.")
    declared = any(label in inspect.get_annotations(cls) for cls in CombinedLoss.__mro__)
    of_module = declared or hasattr(CombinedLoss, label) or label in vars(nn.Module())
    if of_module or label == "total":
        cure = "Choose another."
        if label in ("weighting", "loss_weight"):
            cure = f"It goes beside 'losses': {{type: CombinedLoss, losses: {{…}}, {label}: …}}."
        raise ConfigError(f"{label!r} cannot be a label: it is an attribute of every combined loss. {cure}")


def check_member(member: object) -> None:
    """Refuse what cannot be summed.

    Raises:
        ConfigError: No loss, or one whose result is no scalar.
    """
    if not isinstance(member, (BaseLoss, CombinedLoss)):
        raise ConfigError(f"expected a loss (a BaseLoss or a CombinedLoss), got {shown(member)}.")
    if isinstance(member, CombinedLoss) and member.weighting is not None:
        raise ConfigError(
            "a combination with a weighting cannot be part of another: weigh the terms of the outermost, by labels "
            "joined with dots."
        )
    if isinstance(member, BaseLoss) and member.reduction == "none":
        raise ConfigError(f"{member.label}: reduction='none' gives no scalar to sum. Use 'mean' or 'sum'.")
