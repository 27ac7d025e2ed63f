"""Losses of a whole batch under ``sync_dist``, where the batch is spread over several processes."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from losses_core.distributed import all_reduce_sum, gather_rows
from losses_core.utils.weight_reduce import Reduction
from losses_seg._pixel_loss import PixelLoss
from losses_seg._targets import image_weight


@dataclasses.dataclass(frozen=True)
class SyncGroup:
    """The processes that hold a batch together; ``handle`` None is the default process group."""

    handle: Any = None

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over the ranks; averaged over the ranks, its gradient is that of the whole batch."""
        return all_reduce_sum(tensor, self.handle)

    def gather(self, tensor: Tensor) -> tuple[Tensor, Tensor]:
        """The rows of all ranks, and the index of the first row of this one."""
        return gather_rows(tensor, self.handle)


class BatchReducedLoss(PixelLoss):
    """A loss that is computed per image, or once for the whole batch of all ranks."""

    per_image: bool
    internal_options = ("group",)

    @property
    def coupled(self) -> str:  # type: ignore[override]  # follows per_image
        """The pixels of an image, or those of the whole batch."""
        return "image" if self.per_image else "batch"

    def _sync_group(self) -> SyncGroup | None:
        """The ranks to sum or gather over; None where there is one, or where images are independent."""
        return SyncGroup(self.process_group) if self._synchronises() and not self.per_image else None

    def _arguments(self, pred: Any, target: Any, options: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
        return pred, target, {**options, "group": self._sync_group()}

    def _map_weight(self, weight: Tensor, pred: Tensor, target: Any) -> Tensor:
        return image_weight(weight, pred, self.per_image)

    def _evaluate(
        self,
        pred: Any,
        target: Any,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
        **kwargs: Any,
    ) -> Reduction:
        group = self._sync_group()
        if group is not None and avg_factor is None:
            avg_factor = self.avg_factor
        if group is not None and avg_factor is not None and isinstance(pred, Tensor):
            # the numerator is that of all ranks already, so the base will not sum the denominator either
            avg_factor = group.sum(torch.as_tensor(avg_factor, dtype=torch.float32, device=pred.device))
        return super()._evaluate(pred, target, weight, avg_factor, reduction_override, **kwargs)
