"""What batch-level losses do under ``sync_dist``, where the batch is spread over several processes."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from losses_core import BaseLoss
from losses_core.distributed import all_reduce_sum, gather_rows
from losses_core.utils.weight_reduce import Reduction


@dataclasses.dataclass(frozen=True)
class Ranks:
    """The processes that hold a batch together; ``group`` None is the default process group."""

    group: Any = None

    def total(self, tensor: Tensor) -> Tensor:
        """Sum over the ranks; averaged over the ranks, its gradient is that of the whole."""
        return all_reduce_sum(tensor, self.group)

    def rows(self, tensor: Tensor) -> tuple[Tensor, Tensor]:
        """All ranks' rows, and the index of the first own one."""
        return gather_rows(tensor, self.group)


class BatchLevel(BaseLoss):
    """A loss whose batch-level form is one value for all ranks."""

    per_image: bool

    def _ranks(self) -> Ranks | None:
        """The ranks to sum or gather over in ``_forward``; None where there is one, or images stay apart."""
        return Ranks(self.process_group) if self._synchronises() and not self.per_image else None

    def _evaluate(
        self,
        pred: Any,
        target: Any,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
        **kwargs: Any,
    ) -> Reduction:
        ranks = self._ranks()
        if avg_factor is None:
            avg_factor = self.avg_factor
        if ranks is not None and avg_factor is not None and isinstance(pred, Tensor):
            # the base sums numerators with denominators, and here the numerator is that of all ranks already
            avg_factor = ranks.total(torch.as_tensor(avg_factor, dtype=torch.float32, device=pred.device))
        return super()._evaluate(pred, target, weight, avg_factor, reduction_override, **kwargs)
