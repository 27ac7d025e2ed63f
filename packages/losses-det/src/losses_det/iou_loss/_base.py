"""What the losses of the IoU family share."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor

from losses_core import BaseLoss, LossOptions, examples
from losses_core.utils import checks
from losses_core.utils.boxes import BOX_FORMATS, BoxFormat
from losses_det._geometry import MODES, Mode


class BoxLoss(BaseLoss):
    """Options and weights of the family: a weight of each coordinate, (…,4), counts by its mean."""

    example = examples.BOXES

    def __init__(
        self,
        eps: float = 1e-6,
        mode: Mode = "linear",
        bbox_format: BoxFormat = "xyxy",
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.eps = checks.number(self, "eps", eps, above=0)
        self.mode = checks.choice(self, "mode", mode, MODES)
        self.bbox_format = checks.choice(self, "bbox_format", bbox_format, BOX_FORMATS)

    def _map_weight(self, weight: Tensor, pred: Tensor, target: Tensor) -> Tensor:
        return weight.mean(-1) if weight.ndim and weight.shape == pred.shape else weight
