"""Normalized Gaussian Wasserstein distance of boxes (Wang et al., 2021, arXiv 2110.13389)."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from losses_core import BaseLoss, LossOptions, examples
from losses_core.kernels import definition
from losses_core.utils import checks
from losses_core.utils.boxes import BOX_FORMATS, BoxFormat
from losses_det._geometry import box_pair, wasserstein
from losses_det.iou_loss._base import average_over_coordinates
from losses_det.iou_loss.functions import prepare_boxes


@definition(layout="last", prepare=prepare_boxes)
def nwd_loss(pred: Tensor, target: Tensor, *, constant: float = 12.8, bbox_format: BoxFormat = "xyxy") -> Tensor:
    """1 - exp(-distance / constant) of each pair of boxes, unreduced: see `NWDLoss`.

    Args:
        pred: boxes (…,4).
        target: boxes of the shape of ``pred``.
        constant: scale of the distance > 0, in the unit of the boxes.
        bbox_format: as in `iou_loss`.

    Returns:
        (…)
    """
    return -torch.expm1(-wasserstein(box_pair(pred, target, 1e-6, bbox_format)) / constant)


class NWDLoss(BaseLoss):
    r"""Normalized Wasserstein distance: boxes as Gaussians, for objects of a few pixels.

    .. math::
        l = 1 - \exp\!\left( -\frac1C \sqrt{d^2 + \frac{(w - w')^2 + (h - h')^2}{4}} \right)

    with :math:`d` the distance of the centres and :math:`w', h'` the sides of the target.

    Use when: tiny objects, where a shift of a few pixels takes all of the overlap.

    Args:
        constant: scale C of the distance > 0, in the unit of the boxes. It must fit the data: 12.8 is the authors'
            choice for AI-TOD, the average size of its objects in pixels. Default: 12.8.
        bbox_format: ``xyxy``, ``xywh`` = ``cxcywh`` (centre, size) or ``ltwh`` (corner, size). Default: ``xyxy``.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: boxes (…,4), usually (N,4) of the positives; (0,4) has the loss 0.
        - target: boxes of the shape of pred.
        - weight: (…) or a leading-dims prefix of it; or (…,4), which is averaged over its last axis.

    Returns:
        0-d for ``mean`` (Σ l / number of boxes, or / ``avg_factor``) and ``sum``, (…) for ``none``.

    Raises:
        InputError: a last axis that is not 4, unequal shapes.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = NWDLoss()
        >>> loss(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 0.0, 3.0, 2.0]]))
        tensor(0.0752)

    References:
        Wang et al., A Normalized Gaussian Wasserstein Distance for Tiny Object Detection, 2021, arXiv 2110.13389.

    Notes:
        The loss of equal boxes is exactly 0, with gradient 0; the authors' code gives 2e-5, as it adds to the root.
    """

    example = examples.BOXES
    function = nwd_loss

    def __init__(self, constant: float = 12.8, bbox_format: BoxFormat = "xyxy", **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.constant = checks.number(self, "constant", constant, above=0)
        self.bbox_format = checks.choice(self, "bbox_format", bbox_format, BOX_FORMATS)

    def _map_weight(self, weight: Tensor, pred: Tensor, target: Tensor) -> Tensor:
        return average_over_coordinates(weight, pred)
