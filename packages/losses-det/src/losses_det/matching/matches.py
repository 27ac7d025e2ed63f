"""What a matcher returns."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, SupportsIndex

from torch import Tensor

from losses_core.errors import InputError


class Matches(Sequence[Any]):
    """Pairs of queries and targets of a batch, of one layer or of several.

    ``matches[b]`` is the pair (pred_index, target_index) of image b, int64 on the device of the predictions, pred_index
    ascending. With a layer axis ``matches[l]`` are the matches of a layer, and ``matches[l][b]`` such a pair. Nothing
    here waits for the device: how many pairs an image has is known.

    Attributes:
        query: (…,B,groups·M), int64: the query of each target slot, -1 where there is none. M is the largest number of
            targets of an image; slot g·M + j is target j in group g.
        counts: number of pairs of each image, in a list for each layer if there are layers.
    """

    def __init__(self, query: Tensor, pairs: Tensor, counts: list[Any]) -> None:
        self.query = query
        self.counts = counts
        self._pairs = pairs
        self._ends = [0, *accumulate(sum(n) if isinstance(n, list) else n for n in counts)]

    @property
    def valid(self) -> Tensor:
        """Whether a target slot has a query, (…,B,groups·M)."""
        return self.query >= 0

    def batch_index(self) -> tuple[Tensor, Tensor, Tensor]:
        """Image, query and target of all pairs of a layer, image by image: ``logits[batch, pred_index]``."""
        if self.query.ndim == 3:
            raise InputError("expected the matches of one layer: matches[layer].batch_index().", "Matches")
        batch, pred_index, target_index = self._pairs.unbind(0)
        return batch, pred_index, target_index

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, index: SupportsIndex) -> Any:  # type: ignore[override]  # a slice would be no Matches
        place = range(len(self))[operator.index(index)]
        pairs = self._pairs[:, self._ends[place] : self._ends[place + 1]]
        if self.query.ndim == 3:
            return Matches(self.query[place], pairs, self.counts[place])
        _, pred_index, target_index = pairs.unbind(0)
        return pred_index, target_index

    def __repr__(self) -> str:
        return f"Matches(query of shape {tuple(self.query.shape)}, counts={self.counts})"
