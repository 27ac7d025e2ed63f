"""Wing loss (Feng et al., CVPR 2018, arXiv 1711.06753)."""

from __future__ import annotations

import math
from typing import Any, Unpack

import torch
from torch import Tensor

from losses_core import BaseLoss, LossOptions, examples
from losses_core.kernels import definition
from losses_core.utils import checks


def _prepare(pred: Tensor, target: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    checks.tensor("pred", pred)
    checks.tensor("target", target)
    checks.same_shape(pred, target)
    return pred, target if target.is_floating_point() else target.to(pred.dtype), options


@definition(layout="elements", prepare=_prepare)
def wing_loss(pred: Tensor, target: Tensor, *, width: float = 10.0, curvature: float = 2.0) -> Tensor:
    """Wing loss of each coordinate, unreduced: see `WingLoss`.

    Args:
        pred: coordinates, any shape.
        target: of the shape of ``pred``.
        width: where the logarithm ends and the line begins, > 0.
        curvature: bend of the logarithm, > 0.

    Returns:
        The shape of ``pred``.
    """
    error = (pred - target).abs()
    # the line meets the logarithm at the width
    offset = width - width * math.log1p(width / curvature)
    near = width * torch.log1p(error / curvature)
    return torch.where(error < width, near, error - offset)


class WingLoss(BaseLoss):
    r"""An absolute error that gives small errors a large gradient.

    .. math::
        l = \begin{cases}
            w \ln(1 + |x| / \epsilon) & |x| < w \\
            |x| - w + w \ln(1 + w / \epsilon) & \text{else}
        \end{cases}, \qquad x = \text{pred} - \text{target}

    Use when: coordinates are to be located exactly, as the landmarks of a face.

    Args:
        width: w, where the logarithm ends, in units of pred, > 0. Default: 10.
        curvature: ε, the bend of the logarithm, > 0. Default: 2.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: coordinates, any shape.
        - target: of the shape of pred.
        - weight: of the shape of pred or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` (Σ l / number of elements) and ``sum``, the shape of pred for ``none``.

    Raises:
        InputError: unequal shapes.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = WingLoss()
        >>> loss(torch.tensor([2.0, 20.0]), torch.zeros(2))
        tensor(17.4245)

    References:
        Feng et al., Wing Loss for Robust Facial Landmark Localisation with Convolutional Neural Networks, CVPR 2018,
        arXiv 1711.06753.
    """

    example = examples.VALUES
    function = wing_loss

    def __init__(self, width: float = 10.0, curvature: float = 2.0, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.width = checks.number(self, "width", width, above=0)
        self.curvature = checks.number(self, "curvature", curvature, above=0)
