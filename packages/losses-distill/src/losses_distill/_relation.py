"""A loss that relates the samples of a batch to each other; under ``sync_dist`` the batch is that of all ranks."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from losses_core import BaseLoss, examples
from losses_core.distributed import gather_rows
from losses_distill._inputs import refuse_weight


class Batch(NamedTuple):
    """The rows that are related to each other."""

    student: Tensor
    teacher: Tensor
    own: Tensor | None = None
    """Indices of this rank's rows, whose loss is this rank's to compute; None: all."""

    def part(self, rows: Tensor) -> Tensor:
        """The own rows of a tensor with one row per sample."""
        return rows if self.own is None else rows.index_select(0, self.own)


class RelationLoss(BaseLoss):
    """Takes no sample weight; joins the rows of all ranks in one place, `_batch`."""

    example = examples.EMBEDDINGS

    def _map_weight(self, weight: Tensor, pred: Any, target: Any) -> Tensor:
        return refuse_weight()

    def _batch(self, student: Tensor, teacher: Tensor) -> Batch:
        """The whole batch: what is given, or with ``sync_dist`` the rows of all ranks, in rank order."""
        if not self._synchronises():
            return Batch(student, teacher)
        number, width = student.shape
        whole, start = gather_rows(torch.cat([student, teacher], 1), self.process_group)  # one gather for both
        return Batch(whole[:, :width], whole[:, width:], start + torch.arange(number, device=student.device))
