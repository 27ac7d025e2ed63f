"""Mask losses on sampled points (PointRend, CVPR 2020, arXiv 1912.08193; Mask2Former, CVPR 2022, arXiv 2112.01527)."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from losses_core import BaseLoss, LossOptions, examples
from losses_core.errors import InputError
from losses_core.kernels import definition
from losses_core.utils import checks
from losses_core.utils.precision import upcast
from losses_core.utils.stable import binary_cross_entropy, ratio
from losses_core.utils.value_checks import check_probabilities, warn_of_probabilities
from losses_seg._points import draw_points, read_points, read_truth


def _prepare(pred: Any, target: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Pred (M,H,W), target (M,H',W'), and the points of every mask."""
    checks.floating(checks.tensor("pred", pred))
    checks.tensor("target", target)
    pred, target = _as_masks("pred", pred), _as_masks("target", target)
    if target.shape[0] != pred.shape[0]:
        raise InputError(f"expected target with {pred.shape[0]} masks, as pred has; got {tuple(target.shape)}.")
    warn_of_probabilities(pred)
    nothing_ignored = check_probabilities(target, options["ignore_index"]) is None
    ignore_index = None if nothing_ignored else options["ignore_index"]
    coords = options["point_coords"]
    if coords is None:
        points = {name: options[name] for name in ("points", "oversample", "importance", "generator")}
        coords = draw_points(pred, target, ignore_index, **points)
    else:
        checks.floating(checks.tensor("point_coords", coords))
        count = coords.shape[1] if coords.ndim == 3 else "K"
        checks.shape("point_coords", coords, (pred.shape[0], count, 2), reference="the masks of pred, x first,")
        check_probabilities(coords, name="point_coords", cure="divide by width and height")
        coords = coords.detach()
    kept = {name: options[name] for name in ("bce_weight", "dice_weight", "smooth")}
    return pred, target, {**kept, "ignore_index": ignore_index, "point_coords": coords}


def _as_masks(name: str, tensor: Tensor) -> Tensor:
    if tensor.ndim == 4 and tensor.shape[1] == 1:
        return tensor.squeeze(1)
    if tensor.ndim != 3:
        raise InputError(f"expected {name} of shape (M, H, W) or (M, 1, H, W); got {tuple(tensor.shape)}.")
    return tensor


def _valid_masks(pred: Tensor, target: Tensor, *, ignore_index: int | None, point_coords: Tensor, **_: Any) -> Any:
    """The normalizer: whether a mask has a point that is not ignored; None: each has."""
    if ignore_index is None:
        return None
    valid = read_truth(target, point_coords, ignore_index, torch.float32)[1]
    return valid.any(1)  # type: ignore[union-attr]  # something may be ignored


@definition(layout="batch", prepare=_prepare, normalizer=_valid_masks, rows=("point_coords",), cast=False)
def point_mask_loss(
    pred: Tensor,
    target: Tensor,
    *,
    points: int = 12544,
    oversample: float = 3.0,
    importance: float = 0.75,
    bce_weight: float = 1.0,
    dice_weight: float = 1.0,
    smooth: float = 1.0,
    ignore_index: int | None = None,
    point_coords: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Compute BCE and Dice of sampled points of each mask, unreduced: see `PointMaskLoss`.

    Args:
        pred: logits (M,H,W) or (M,1,H,W).
        target: masks in [0,1], (M,H',W') or (M,1,H',W').
        points: number of points of each mask.
        oversample: candidates per point.
        importance: share of the points that are the most uncertain candidates.
        bce_weight: of the binary cross-entropy.
        dice_weight: of the Dice loss.
        smooth: s ≥ 0, in points.
        ignore_index: value of the ignored pixels; None: no pixel is.
        point_coords: (M,K,2) in [0,1], x first: nothing is drawn.
        generator: of the draws; None: torch's.

    Returns:
        The loss (M,); as normalizer, whether a mask has a point that is not ignored.
    """
    assert point_coords is not None  # they are drawn, or checked
    x = upcast(read_points(pred, point_coords))
    y, valid = read_truth(target, point_coords, ignore_index, x.dtype)
    keep = x.new_ones(()) if valid is None else valid.to(x.dtype)
    x = x if valid is None else x.masked_fill(~valid, 0)  # 0 · NaN is NaN
    p = torch.sigmoid(x)
    count = keep.expand_as(x).sum(1).clamp(min=1)
    bce = (binary_cross_entropy(x, y) * keep).sum(1) / count
    p, y = p * keep, y * keep
    total = p.sum(1) + y.sum(1)
    dice = ratio(total - 2 * (p * y).sum(1), total + smooth)  # 1 - (2I + s) / (total + s)
    return bce_weight * bce + dice_weight * dice


class PointMaskLoss(BaseLoss):
    r"""Mask loss on sampled points: binary cross-entropy and Dice at points, most of them where the mask is uncertain.

    .. math::
        L_m = w_{bce} \frac{1}{K} \sum_k \text{BCE}(x_{mk}, y_{mk})
            + w_{dice} \left( 1 - \frac{2 \sum_k \sigma(x_{mk})\, y_{mk} + s}
            {\sum_k \sigma(x_{mk}) + \sum_k y_{mk} + s} \right)

    with logits x and truth y at K points of mask m, both read bilinearly, so that they may differ in resolution.

    Use when: instance and panoptic segmentation with a mask per query (Mask2Former, which trains with
    ``loss_weight=5``), where masks are many and large. Not for a few small masks: there the loss of all pixels is as
    cheap, and exact.

    Args:
        points: number of points K of each mask, ≥ 1. Default: 12544, 112².
        oversample: candidates per point, ≥ 1. Default: 3.
        importance: share of the points that are the candidates with the smallest \|logit\|, in [0,1]; the others are
            drawn anew, uniformly. Default: 0.75.
        bce_weight: of the binary cross-entropy, ≥ 0. Default: 1.
        dice_weight: of the Dice loss, ≥ 0. Default: 1.
        smooth: s ≥ 0, in points. Default: 1.
        ignore_index: value of the pixels of the target that are ignored: a point that touches one is excluded, and is
            the last to be kept. Default: None, no pixel is ignored. May also be given per call.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (M,H,W) or (M,1,H,W), one mask per matched pair of query and object.
        - target: (M,H',W') or (M,1,H',W') with values in [0,1] or ``ignore_index``, of any resolution.
        - weight: (M,).
        - point_coords (a keyword of the call): (M,K,2) in [0,1], x first; nothing is drawn then.
        - generator (a keyword of the call): a ``torch.Generator`` on the device of pred, in place of torch's.

    Returns:
        0-d for ``mean`` (over the masks with a valid point; ``avg_factor`` is what detectors call num_masks) and
        ``sum``, (M,) for ``none``. Without masks: 0.

    Raises:
        InputError: a shape or a dtype that does not fit; on the CPU, a target or a coordinate outside [0,1].
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = PointMaskLoss(points=50)
        >>> target = torch.zeros(1, 16, 16)
        >>> target[:, 4:12, 4:12] = 1
        >>> pred = torch.nn.functional.avg_pool2d(target, 2) * 20 - 10
        >>> loss(pred, target) < 2 < loss(-pred, target)
        tensor(True)

    References:
        Kirillov et al., PointRend: Image Segmentation as Rendering, CVPR 2020, arXiv 1912.08193. Cheng et al.,
        Masked-attention Mask Transformer for Universal Image Segmentation, CVPR 2022, arXiv 2112.01527.

    Notes:
        Points are drawn in float32, in eval mode too: candidates, then the uniform rest. A seed gives the points of
        transformers' Mask2Former; newer versions of detectron2 take the rest from unused candidates. Under
        ``torch.compile`` give ``point_coords`` or torch's own generator. Samples outside the image read 0, as
        ``grid_sample`` does with ``align_corners=False``. Unlike those, a double backward works.
    """

    coupled = "image"
    example = examples.MASKS
    function = point_mask_loss

    def __init__(
        self,
        points: int = 12544,
        oversample: float = 3.0,
        importance: float = 0.75,
        bce_weight: float = 1.0,
        dice_weight: float = 1.0,
        smooth: float = 1.0,
        ignore_index: int | None = None,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.points = checks.number(self, "points", points, low=1, integer=True)
        self.oversample = checks.number(self, "oversample", oversample, low=1)
        self.importance = checks.number(self, "importance", importance, low=0, high=1)
        self.bce_weight = checks.number(self, "bce_weight", bce_weight, low=0)
        self.dice_weight = checks.number(self, "dice_weight", dice_weight, low=0)
        self.smooth = checks.number(self, "smooth", smooth, low=0)
        if ignore_index is not None:
            checks.number(self, "ignore_index", ignore_index, integer=True)
        self.ignore_index = ignore_index

    def _stand_in(self, target: Tensor, num_classes: int | None) -> Tensor:
        return self._zeros(target.shape, target)

    def _normalizer(
        self, target: Any, weight: Tensor | None, num_classes: int | None, keywords: dict[str, Any]
    ) -> Tensor | int:
        if keywords["ignore_index"] is None:
            return int(target.shape[0])
        if keywords["point_coords"] is None:
            raise InputError("which masks are counted depends on the points: give point_coords=, here and to the loss.")
        return super()._normalizer(target, weight, num_classes, keywords)
