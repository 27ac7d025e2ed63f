"""Kernel of the keypoint similarity."""

from __future__ import annotations

from torch import Tensor

from losses_core.kernels import kernel
from losses_det._kernels._boxes import where_above
from losses_det.keypoint_loss import KeypointMode, oks_loss, similarities


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
    difference, precision, similarity, number = similarities(x, target, visibility, area, sigmas)
    total, share = similarity.sum(-1), precision.mul_(similarity)
    if number is None:
        oks, share = total.div_(sigmas.shape[0]), share.div_(sigmas.shape[0])
    else:
        bounded = number.clamp(min=1)
        oks, share = (total / bounded).masked_fill_(number == 0, 1), share.div_(bounded.unsqueeze(-1))
    if mode == "linear":
        value = 1 - oks
    else:
        bounded = oks.clamp(min=eps)
        value = bounded.log().neg_()
        share.mul_(where_above(eps, oks, bounded.reciprocal()).unsqueeze(-1))
    return value, (difference * share.unsqueeze(-1)).flatten(-2) if needs_grad else None
