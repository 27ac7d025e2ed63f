"""Losses of pixels whose target may hold class indices without the axis of the classes."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from losses_core import BaseLoss


class PixelLoss(BaseLoss):
    """A loss of pred (N,C,*S), and target (N,*S) or (N,1,*S), class indices, or (N,C,*S)."""

    channels: ClassVar[int | None] = None
    """C, of a class that takes one number of channels only."""

    def _known_classes(self, num_classes: int | None) -> int | None:
        return self.channels or super()._known_classes(num_classes)

    def _stand_in(self, target: Tensor, num_classes: int | None) -> Tensor:
        classes = self._known_classes(num_classes)
        shape = list(target.shape)
        if target.is_floating_point() and classes != 1:
            return self._zeros(shape, target)
        if target.ndim < 3 or shape[1] != 1:
            shape.insert(1, 1)
        shape[1] = self._classes(target, num_classes)
        return self._zeros(shape, target)
