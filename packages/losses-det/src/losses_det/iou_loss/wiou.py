"""IoU with a dynamic focus (Tong et al., 2023, arXiv 2301.10051)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Unpack, get_args

import torch
from torch import Tensor

from losses_core import BaseLoss, LossOptions, examples
from losses_core.distributed import all_reduce_sum
from losses_core.errors import InputError
from losses_core.kernels import Prepared, definition
from losses_core.utils import checks
from losses_core.utils.boxes import BOX_FORMATS, BoxFormat
from losses_core.utils.weight_reduce import Reduction, align, weight_error
from losses_det._geometry import box_pair, relative_distance, wise_focus
from losses_det.iou_loss._base import average_over_coordinates
from losses_det.iou_loss.functions import iou_loss, prepare_boxes

Version = Literal[1, 3]
VERSIONS: tuple[Version, ...] = get_args(Version)


def _prepare(pred: Any, target: Any, **options: Any) -> Prepared:
    if options["version"] not in VERSIONS:
        raise InputError(f"version: expected 1 or 3; got {options['version']!r}.")
    mean = options["mean"]
    options["mean"] = 1.0 if mean is None or options["version"] == 1 else mean
    return prepare_boxes(pred, target, **options)


@definition(layout="last", prepare=_prepare)
def wiou_loss(
    pred: Tensor,
    target: Tensor,
    *,
    mean: Tensor | float | None = None,
    version: Version = 3,
    alpha: float = 1.9,
    delta: float = 3.0,
    eps: float = 1e-6,
    bbox_format: BoxFormat = "xyxy",
) -> Tensor:
    """IoU loss times the focus on the distance and, in version 3, on ordinary boxes, unreduced: see `WIoULoss`.

    Args:
        pred: boxes (…,4).
        target: boxes of the shape of ``pred``.
        mean: running mean of 1 - IoU, a number or 0-d; None: 1, as at the start of a training.
        version: 1 or 3.
        alpha: base of the focus ≥ 1.
        delta: multiple of the mean at which the focus is 1, > 0.
        eps: as in `iou_loss`.
        bbox_format: as in `iou_loss`.

    Returns:
        (…)
    """
    pair = box_pair(pred, target, eps, bbox_format)
    miss = 1 - pair.iou
    value = relative_distance(pair).exp() * miss
    if version == 1 or mean is None:
        return value
    return value * wise_focus(miss.detach(), mean, alpha, delta, eps)


class WIoULoss(BaseLoss):
    r"""Wise-IoU loss: focuses on boxes of ordinary quality, not on the best and the worst.

    .. math::
        l = \frac{\beta}{\delta\, \alpha^{\beta - \delta}}\; e^{d^2 / c^2} (1 - \mathrm{IoU}), \qquad
        \beta = \frac{1 - \mathrm{IoU}}{\overline{1 - \mathrm{IoU}}}

    with :math:`d` the distance of the centres and :math:`c` the diagonal of the smallest box around both. Version 1 has
    no factor before the exponential. :math:`c` and :math:`\beta` are constants in the gradient.

    Use when: box regression on labels of mixed quality: boxes far worse than the average count less.

    Args:
        version: 1, or 3 with the dynamic focus. Default: 3.
        alpha: base of the focus ≥ 1. Default: 1.9.
        delta: multiple of the mean at which the focus is 1, > 0. Default: 3.
        momentum: share of a batch in the running mean, in [0,1]. Default: 1e-4.
        eps: lower bound of every denominator > 0, never added: the loss of equal boxes is exactly 0. Default: 1e-6.
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
        >>> loss = WIoULoss(version=1)
        >>> loss(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 0.0, 3.0, 2.0]]))
        tensor(0.7200)

    References:
        Tong et al., Wise-IoU: Bounding Box Regression Loss with Dynamic Focusing Mechanism, 2023, arXiv 2301.10051.

    Notes:
        The mean of 1 - IoU is a persistent buffer ``mean``, 1 at the start. In training mode a call updates it before
        it is used, over all ranks with ``sync_dist``; boxes of weight 0 do not count. Well-known codes keep a Python
        number on the class, which all models share and a resumed training lacks. The authors' momentum is
        1 - 0.5^(1/7000), about 1e-4.
    """

    example = examples.BOXES
    function = wiou_loss
    internal_options = ("mean",)

    def __init__(
        self,
        version: Version = 3,
        alpha: float = 1.9,
        delta: float = 3.0,
        momentum: float = 1e-4,
        eps: float = 1e-6,
        bbox_format: BoxFormat = "xyxy",
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.version = checks.choice(self, "version", version, VERSIONS)
        self.alpha = checks.number(self, "alpha", alpha, low=1)
        self.delta = checks.number(self, "delta", delta, above=0)
        self.momentum = checks.number(self, "momentum", momentum, low=0, high=1)
        self.eps = checks.number(self, "eps", eps, above=0)
        self.bbox_format = checks.choice(self, "bbox_format", bbox_format, BOX_FORMATS)
        self.mean: Tensor
        self.register_buffer("mean", torch.ones(()))

    @property
    def coupled(self) -> str | None:  # type: ignore[override]  # follows version
        """The batch, through the running mean."""
        return None if self.version == 1 else "batch"

    def _evaluate_function(
        self,
        pred: Any,
        target: Any,
        weight: Tensor | None,
        reduction: str,
        avg_factor: float | Tensor | None,
        keywords: dict[str, Any],
        scale: float | None,
    ) -> Reduction:
        if "mean" not in keywords:  # a call inside autocast comes here twice
            keywords = {**keywords, "mean": self._running_mean(pred, target, weight)}
        return super()._evaluate_function(pred, target, weight, reduction, avg_factor, keywords, scale)

    def _map_weight(self, weight: Tensor, pred: Tensor, target: Tensor) -> Tensor:
        return average_over_coordinates(weight, pred)

    def _options(self, pred: Tensor, keywords: Mapping[str, Any]) -> dict[str, Any]:
        return {**super()._options(pred, keywords), "mean": keywords.get("mean")}

    def _running_mean(self, pred: Any, target: Any, weight: Tensor | None) -> Tensor:
        """The mean of 1 - IoU, updated in training mode with this batch."""
        mean = self.mean
        if self.version == 1 or not self.training:
            return mean.clone()
        checks.floating(pred)
        with torch.no_grad():
            miss = iou_loss(pred, target, mode="linear", eps=self.eps, bbox_format=self.bbox_format)
            # numbers beyond 2^24 are not exact in float32; mps has no float64
            dtype = torch.float32 if miss.device.type == "mps" else torch.float64
            if weight is None:
                total = miss.sum(dtype=dtype)
                number = torch.full((), miss.numel(), dtype=dtype, device=miss.device)
            else:
                aligned = align(average_over_coordinates(checks.tensor("weight", weight), pred), miss.shape)
                if aligned is None:
                    raise weight_error(miss.shape, weight)
                counted = (aligned != 0).expand_as(miss)
                total, number = miss.masked_fill(~counted, 0).sum(dtype=dtype), counted.sum(dtype=dtype)
            if self._synchronises():
                total, number = all_reduce_sum(torch.stack((total, number)), self.process_group).unbind()
            old = mean.to(miss.device, dtype)
            new = old + self.momentum * (total / number.clamp(min=1) - old)
            new = torch.where(number > 0, new, old)
            mean.copy_(new)
            return new
