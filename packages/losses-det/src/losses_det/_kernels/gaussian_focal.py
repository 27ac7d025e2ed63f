"""Kernel of the Gaussian focal loss."""

from __future__ import annotations

import math

from torch import Tensor

from losses_core.kernels import kernel
from losses_det._kernels._scores import Scores
from losses_det.gaussian_focal import gaussian_focal_loss, peaks_and_weights


def _bound(*, alpha: float, use_sigmoid: bool, **_: object) -> float | None:
    # -(1-p) ln(1-p) is at most 1/e
    return 1 + alpha / math.e if use_sigmoid else None


@kernel(gaussian_focal_loss, bound=_bound, temporaries=10)
def gaussian_focal_kernel(
    x: Tensor, target: Tensor, *, alpha: float, gamma: float, use_sigmoid: bool, needs_grad: bool
) -> tuple[Tensor, Tensor | None]:
    """The focal loss against 0 or 1, times the weight of the element."""
    peak, weight = peaks_and_weights(target, gamma)
    scores = Scores(x, peak, use_sigmoid=use_sigmoid)
    grad = scores.focused_grad(alpha).mul_(weight) if needs_grad else None
    return scores.focus(alpha).mul_(scores.entropy).mul_(weight), grad
