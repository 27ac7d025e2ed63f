"""IoU with the distances of the corners (Ma and Xu, 2023, arXiv 2307.07662)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

from torch import Tensor

from losses_core import LossOptions, examples
from losses_core.errors import ConfigError, InputError
from losses_core.kernels import definition, delegate
from losses_core.utils import checks
from losses_core.utils.boxes import BoxFormat
from losses_det._geometry import Mode, box_corners, box_pair, overlap_loss
from losses_det.iou_loss._base import BoxLoss
from losses_det.iou_loss.functions import prepare_boxes

ImageSize = Sequence[float] | Tensor


@definition(layout="last", prepare=prepare_boxes, rows=("image_size",))
def iou_with_corners(
    pred: Tensor,
    target: Tensor,
    *,
    image_size: tuple[float, float] | Tensor,
    mode: Mode = "linear",
    eps: float = 1e-6,
    bbox_format: BoxFormat = "xyxy",
    power: float = 1.0,
    inner_ratio: float | None = None,
) -> Tensor:
    """f(IoU) plus the squared distances of the corners over H² + W²; ``image_size`` is (…,2) if a tensor."""
    (low, high), (target_low, target_high) = (box_corners(boxes, bbox_format) for boxes in (pred, target))
    distance = (low - target_low).square().sum(-1) + (high - target_high).square().sum(-1)
    pair = box_pair(pred, target, eps, bbox_format, inner_ratio)
    return overlap_loss(pair, mode, power) + distance / squared_diagonal(image_size)


def squared_diagonal(image_size: tuple[float, float] | Tensor) -> Tensor | float:
    """H² + W² of two numbers, or of (…,2)."""
    if isinstance(image_size, Tensor):
        return image_size.square().sum(-1)
    height, width = image_size
    return height * height + width * width


@definition(cast=False, delegates=True)
def mpdiou_loss(
    pred: Tensor,
    target: Tensor,
    *,
    image_size: ImageSize | None = None,
    mode: Mode = "linear",
    eps: float = 1e-6,
    bbox_format: BoxFormat = "xyxy",
    power: float = 1.0,
    inner_ratio: float | None = None,
) -> Tensor:
    """f(IoU) plus the distances of the corners, unreduced: see `MPDIoULoss`.

    Args:
        pred: boxes (…,4).
        target: boxes of the shape of ``pred``.
        image_size: height and width, two numbers or (2,), or (…,2) for each box; in the unit of the boxes.
        mode: as in `iou_loss`.
        eps: as in `iou_loss`.
        bbox_format: as in `iou_loss`.
        power: exponent of the IoU ≥ 1, in ``linear`` alone.
        inner_ratio: as in `iou_loss`.

    Returns:
        (…)

    Raises:
        InputError: as `iou_loss`; no ``image_size``.
    """
    checks.tensor("pred", pred)
    return delegate(
        iou_with_corners,
        pred,
        target,
        image_size=_checked(image_size, pred),
        mode=mode,
        eps=eps,
        bbox_format=bbox_format,
        power=power,
        inner_ratio=inner_ratio,
    )


def _checked(image_size: ImageSize | None, pred: Tensor) -> tuple[float, float] | Tensor:
    """Two numbers, or a size for each box."""
    if image_size is None:
        raise InputError(
            "image_size: expected (height, width) in the unit of the boxes, as an option or at the call; got None."
        )
    if not isinstance(image_size, Tensor):
        return check_image_size(image_size)
    rows = pred.shape[:-1]
    checks.shape("image_size", image_size, (2,), (*rows, 2), reference=f"pred {tuple(pred.shape)}")
    return (image_size if image_size.is_floating_point() else image_size.float()).expand(*rows, 2)


def check_image_size(image_size: Any) -> tuple[float, float]:
    """Two numbers > 0."""
    is_pair = isinstance(image_size, Sequence) and not isinstance(image_size, str) and len(image_size) == 2
    if not is_pair or not all(isinstance(side, (int, float)) and 0 < side < float("inf") for side in image_size):
        raise InputError(f"image_size: expected two numbers > 0, (height, width); got {image_size!r}.")
    height, width = image_size
    return height, width


def _with_size(make: Any) -> Any:
    def made(loss: Any, *args: Any) -> examples.Inputs:
        inputs: examples.Inputs = make(loss, *args)
        return inputs if loss.image_size is not None else inputs._replace(call={"image_size": (32, 32)})

    return made


class MPDIoULoss(BoxLoss):
    r"""MPDIoU loss: overlap and distances of the two corners.

    .. math::
        l = 1 - \mathrm{IoU} + \frac{d_1^2 + d_2^2}{H^2 + W^2}

    with :math:`d_1, d_2` the distances of the left top and of the right bottom corners, and :math:`H, W` the size of
    the image.

    Use when: box regression in general; one distance covers the place, the size and the aspect ratio of a box.

    Args:
        image_size: (height, width) of the image, in the unit of the boxes, > 0. Default: None, given at each call.
        eps: lower bound of the union > 0, never added: the loss of equal boxes is exactly 0. Default: 1e-6.
        mode: f: ``linear`` or ``iou`` 1 - IoU, ``log`` -ln max(IoU, eps), ``square`` 1 - IoU². Default: ``linear``.
        bbox_format: ``xyxy``, ``xywh`` = ``cxcywh`` (centre, size) or ``ltwh`` (corner, size). Default: ``xyxy``.
        power: exponent of the IoU ≥ 1, with ``linear`` alone; the distance has none. Default: 1.
        inner_ratio: f takes the IoU of both boxes scaled about their centres by it, > 0 (Inner-IoU). Default: None.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: boxes (…,4), usually (N,4) of the positives; (0,4) has the loss 0.
        - target: boxes of the shape of pred.
        - image_size: keyword of the call, two numbers, or a tensor (2,) or (…,2) with a size for each box.
        - weight: (…) or a leading-dims prefix of it; or (…,4), which is averaged over its last axis.

    Returns:
        0-d for ``mean`` (Σ l / number of boxes, or / ``avg_factor``) and ``sum``, (…) for ``none``.

    Raises:
        InputError: a last axis that is not 4, unequal shapes, no ``image_size``.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = MPDIoULoss(image_size=(4, 4))
        >>> loss(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 0.0, 3.0, 2.0]]))
        tensor(0.7292)

    References:
        Ma and Xu, MPDIoU: A Loss for Efficient and Accurate Bounding Box Regression, 2023, arXiv 2307.07662.

    Notes:
        Boxes and image must have one unit: codes that pass 640 with boxes in strides weaken the distance by the square
        of the stride.
    """

    function = mpdiou_loss
    example = examples.Example(
        _with_size(examples.BOXES.make),
        (8, 4),
        examples.Path(
            examples.BOXES.path.x,  # type: ignore[union-attr]  # it has one
            examples.BOXES.path.per,  # type: ignore[union-attr]
            examples.BOXES.path.span,  # type: ignore[union-attr]
            {name: _with_size(at) for name, at in examples.BOXES.path.lines.items()},  # type: ignore[union-attr]
        ),
    )
    per_call = ("image_size",)

    def __init__(
        self,
        image_size: Sequence[float] | None = None,
        eps: float = 1e-6,
        mode: Mode = "linear",
        bbox_format: BoxFormat = "xyxy",
        power: float = 1.0,
        inner_ratio: float | None = None,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(eps, mode, bbox_format, power, inner_ratio, **options)
        self.image_size = image_size
        if image_size is not None:
            try:
                check_image_size(image_size)
            except InputError as error:
                raise ConfigError(f"MPDIoULoss: {error}") from None
