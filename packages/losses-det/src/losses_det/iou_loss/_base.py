"""What the losses of the IoU family share."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor

from losses_core import BaseLoss, LossOptions, examples
from losses_core.errors import ConfigError
from losses_core.utils import checks
from losses_core.utils.boxes import BOX_FORMATS, BoxFormat
from losses_det._geometry import MODES, Mode
from losses_det.iou_loss.functions import POWER_MODES, power_text


def average_over_coordinates(weight: Tensor, pred: Tensor) -> Tensor:
    """The weight of each box from one of each coordinate, (…,4); any other weight as it is."""
    return weight.mean(-1) if weight.ndim and weight.shape == pred.shape else weight


class BoxLoss(BaseLoss):
    """Options and weights of the family: a weight of each coordinate, (…,4), counts by its mean."""

    example = examples.BOXES
    internal_options = ("pairwise",)  # a loss has a target for each prediction

    def __init__(
        self,
        eps: float = 1e-6,
        mode: Mode = "linear",
        bbox_format: BoxFormat = "xyxy",
        power: float = 1.0,
        inner_ratio: float | None = None,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.eps = checks.number(self, "eps", eps, above=0)
        self.mode = checks.choice(self, "mode", mode, MODES)
        self.bbox_format = checks.choice(self, "bbox_format", bbox_format, BOX_FORMATS)
        self.power = checks.number(self, "power", power, low=1)
        if power != 1 and mode not in POWER_MODES:
            raise ConfigError(f"{type(self).__name__}: {power_text(power, mode)}")
        self.inner_ratio = None if inner_ratio is None else checks.number(self, "inner_ratio", inner_ratio, above=0)

    def _map_weight(self, weight: Tensor, pred: Tensor, target: Tensor) -> Tensor:
        return average_over_coordinates(weight, pred)


class PenalizedBoxLoss(BoxLoss):
    """A loss of f(IoU) plus penalties, with a focusing factor."""

    def __init__(
        self,
        eps: float = 1e-6,
        mode: Mode = "linear",
        bbox_format: BoxFormat = "xyxy",
        power: float = 1.0,
        inner_ratio: float | None = None,
        focal_gamma: float = 0.0,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(eps, mode, bbox_format, power, inner_ratio, **options)
        self.focal_gamma = checks.number(self, "focal_gamma", focal_gamma, low=0)
