"""The options that the losses of regions share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor

from losses_core import LossOptions
from losses_core.utils import checks
from losses_seg._sync import BatchReducedLoss
from losses_seg._targets import ACTIVATIONS, Activation, check_classes


class RegionOptions(LossOptions, total=False):
    """The options of `RegionLoss` (``**options: Unpack[RegionOptions]``)."""

    ignore_index: int
    class_weight: Sequence[float] | Tensor | None
    per_image: bool
    classes: str | Sequence[int]
    include_background: bool
    activation: Activation


class RegionLoss(BatchReducedLoss):
    """A loss of each image and class, or of each class of a batch, that is made of sums over pixels."""

    def __init__(
        self,
        ignore_index: int = 255,
        class_weight: Sequence[float] | Tensor | None = None,
        per_image: bool = True,
        classes: str | Sequence[int] = "all",
        include_background: bool = True,
        activation: Activation = "auto",
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.ignore_index = checks.number(self, "ignore_index", ignore_index, integer=True)
        self._set_vector("class_weight", class_weight)
        self.per_image = checks.flag(self, "per_image", per_image)
        self.classes = check_classes(self, classes)
        self.include_background = checks.flag(self, "include_background", include_background)
        self.activation = checks.choice(self, "activation", activation, ACTIVATIONS)
