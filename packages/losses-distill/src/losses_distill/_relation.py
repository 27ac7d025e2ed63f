"""Losses that relate the samples of a batch to each other; with ``sync_dist`` the batch is that of all ranks."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from losses_core import BaseLoss, examples
from losses_core.distributed import gather_rows
from losses_core.utils.precision import match_dtype, upcast
from losses_distill._inputs import prepare_rows


class Batch(NamedTuple):
    """The rows that are related to each other."""

    student: Tensor
    teacher: Tensor
    anchors: Tensor | None = None
    """Indices of the rows whose loss is computed, those of this rank; None: all."""


def select(rows: Tensor, anchors: Tensor | None) -> Tensor:
    """The rows of the anchors."""
    return rows if anchors is None else rows.index_select(0, anchors)


def anchor_number(pred: Tensor, anchors: Tensor | None) -> int:
    """The number of rows whose loss is computed."""
    return pred.shape[0] if anchors is None else anchors.shape[0]


class RelationLoss(BaseLoss):
    """Gather the rows of all ranks, and let a weight apply to anchors alone."""

    coupled = "batch"
    example = examples.EMBEDDINGS
    internal_options = ("anchors",)

    def _on_pred(self, weight: Tensor, pred: Tensor) -> Tensor | None:
        return None  # a sample of weight 0 is still related to the others, through which it has a gradient

    def _arguments(self, pred: Any, target: Any, options: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
        if not self._synchronises():
            return pred, target, {**options, "anchors": None}
        batch = self._gather(*prepare_rows(pred, target))
        return batch.student, batch.teacher, {**options, "anchors": batch.anchors}

    def _gather(self, student: Tensor, teacher: Tensor) -> Batch:
        """The rows of all ranks, in rank order, where ``sync_dist`` asks for them."""
        if not self._synchronises():
            return Batch(student, teacher)
        number, width = student.shape
        student = upcast(student)
        both = torch.cat([student, match_dtype(teacher, student.dtype)], 1)  # one gather for both
        rows, start = gather_rows(both, self.process_group)
        return Batch(rows[:, :width], rows[:, width:], start + torch.arange(number, device=student.device))
