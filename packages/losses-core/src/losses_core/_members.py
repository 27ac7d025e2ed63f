"""Modules under labels: the mapping that a combination is."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import TYPE_CHECKING, cast

from torch import nn

if TYPE_CHECKING:
    from losses_core.combined import Member


class LabelledLosses(nn.Module):
    """A module that is a mapping of labels to the losses in it; a subclass sets `_labels`."""

    _labels: tuple[str, ...]

    def __getitem__(self, label: str) -> Member:
        if label not in self:
            raise KeyError(label)
        return cast("Member", self._modules[label])

    def __iter__(self) -> Iterator[str]:
        return iter(self._labels)

    def __len__(self) -> int:
        return len(self._labels)

    def __contains__(self, label: object) -> bool:
        return label in self._labels

    def keys(self) -> KeysView[str]:
        """The labels."""
        return self._members().keys()

    def values(self) -> ValuesView[Member]:
        """The members."""
        return self._members().values()

    def items(self) -> ItemsView[str, Member]:
        """The members by label."""
        return self._members().items()

    def _members(self) -> dict[str, Member]:
        return {label: cast("Member", self._modules[label]) for label in self._labels}
