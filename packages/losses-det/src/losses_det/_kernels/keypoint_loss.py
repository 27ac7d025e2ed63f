"""Kernel of the keypoint similarity."""

from __future__ import annotations

import torch
from torch import Tensor

from losses_core.kernels import kernel
from losses_det._kernels._boxes import where_above
from losses_det.keypoint_loss import SMALLEST_AREA, KeypointMode, oks_loss


@kernel(oks_loss, temporaries=14)
def oks_kernel(
    x: Tensor,
    target: Tensor,
    *,
    area: Tensor,
    visibility: Tensor | None,
    sigmas: Tensor,
    mode: KeypointMode,
    eps: float,
    needs_grad: bool,
) -> tuple[Tensor, Tensor | None]:
    """The gradient of a point is its difference times precision and similarity, over the number of points."""
    dx, dy = (x - target).unflatten(-1, (-1, 2)).unbind(-1)
    number: Tensor | float = sigmas.shape[0]
    label = None
    if visibility is not None:
        labelled = visibility > 0
        label = labelled.to(x.dtype)
        number = label.sum(-1)
        dx, dy = torch.where(labelled, dx, 0), torch.where(labelled, dy, 0)  # NaN too
    precision = area.clamp(min=SMALLEST_AREA).reciprocal().unsqueeze(-1) * (0.25 / sigmas.square())
    similarity = torch.addcmul(dx * dx, dy, dy).mul_(precision).mul_(-0.5).exp_()
    similarity = similarity if label is None else similarity.mul_(label)
    oks = similarity.sum(-1)
    if isinstance(number, Tensor):
        oks = (oks / number.clamp(min=1)).masked_fill_(number == 0, 1)
        scale = number.clamp(min=1).reciprocal()
    else:
        oks, scale = oks.div_(number), torch.full_like(oks, 1 / number)
    if mode == "linear":
        value = 1 - oks
    else:
        bounded = oks.clamp(min=eps)
        value = bounded.log().neg_()
        scale = scale * where_above(eps, oks, bounded.reciprocal())
    if not needs_grad:
        return value, None
    share = precision.mul_(similarity).mul_(scale.unsqueeze(-1))
    # coordinate by coordinate: what broadcasts or stacks along an axis of two takes ten times as long
    gradient = torch.empty_like(x).unflatten(-1, (-1, 2))
    gradient[..., 0] = dx * share
    gradient[..., 1] = dy * share
    return value, gradient.flatten(-2)
