"""Gaussian focal loss of heatmaps (Law and Deng, ECCV 2018, arXiv 1808.01244)."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from losses_core import BaseLoss, LossOptions, examples
from losses_core.kernels import Prepared, definition
from losses_core.utils import checks
from losses_core.utils.stable import power
from losses_core.utils.value_checks import check_probabilities
from losses_det._quality import distance_and_entropy, focused


def _prepare(pred: Any, target: Any, **options: Any) -> Prepared:
    checks.tensor("pred", pred)
    checks.tensor("target", target)
    checks.same_shape(pred, target)
    check_probabilities(target)
    if not options["use_sigmoid"]:
        check_probabilities(pred, name="pred", cure="Does pred hold logits? Then set use_sigmoid=True.")
    return pred, target if target.is_floating_point() else target.to(pred.dtype), options


def peaks_and_weights(target: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """1 at the peaks and 0 elsewhere, and the weight of each element: 1 at a peak, else (1-y)^γ."""
    is_peak = target == 1
    return is_peak.to(target.dtype), power(1 - target, gamma).masked_fill(is_peak, 1)


@definition(layout="elements", prepare=_prepare)
def gaussian_focal_loss(
    pred: Tensor, target: Tensor, *, alpha: float = 2.0, gamma: float = 4.0, use_sigmoid: bool = True
) -> Tensor:
    """Gaussian focal loss of each element, unreduced: see `GaussianFocalLoss`.

    Args:
        pred: logits, or probabilities with ``use_sigmoid=False``; any shape.
        target: heatmap in [0,1] of the shape of ``pred``; peaks are exactly 1.
        alpha: focusing of all elements ≥ 0.
        gamma: reduction of the loss near a peak ≥ 0.
        use_sigmoid: what ``pred`` holds.

    Returns:
        The shape of ``pred``.
    """
    peak, weight = peaks_and_weights(target, gamma)
    distance, entropy = distance_and_entropy(pred, peak, use_sigmoid)
    return weight * focused(distance, alpha) * entropy


def _heatmap(score: float) -> Any:
    return lambda loss, t: examples.Inputs(t.reshape(1, 1), torch.full((1, 1), score, dtype=torch.float64))


PATH = examples.Path(
    "logit", "the logit", (-6, 6), {"peak": _heatmap(1), "y = 0.8": _heatmap(0.8), "y = 0": _heatmap(0)}
)


def _draw(loss: Any, draw: examples.Draw) -> examples.Inputs:
    """Logits, and a heatmap of which a part are peaks."""
    return examples.Inputs(draw.normal(draw.pred), (1.2 * draw.uniform(draw.target or draw.pred)).clamp(max=1))


class GaussianFocalLoss(BaseLoss):
    r"""Gaussian focal loss: a heatmap with a peak at each object, whose surroundings are negatives of a lower weight.

    .. math::
        l = \begin{cases} -(1-p)^\alpha \ln p & y = 1 \\ -(1-y)^\gamma\, p^\alpha \ln(1-p) & \text{otherwise}
        \end{cases}, \qquad p = \sigma(x)

    Use when: objects are detected as peaks of a heatmap, as in CornerNet and CenterNet.

    Args:
        alpha: focusing of all elements ≥ 0. Default: 2.
        gamma: how far the loss of a negative near a peak is reduced, ≥ 0. Default: 4.
        use_sigmoid: pred holds logits (True) or probabilities. Default: True.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,C,H,W), any shape.
        - target: heatmap in [0,1] of the shape of pred. An element is a peak where it is exactly 1.
        - weight: the shape of pred or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` (Σ l / number of elements, or ``avg_factor``: the number of peaks, as published) and ``sum``,
        the shape of pred for ``none``.

    Raises:
        InputError: unequal shapes, a target outside [0,1].
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = GaussianFocalLoss(reduction="none")
        >>> loss(torch.tensor([[0.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.5, 0.0]]))
        tensor([[0.1733, 0.0108, 0.1733]])

    References:
        Law and Deng, CornerNet: Detecting Objects as Paired Keypoints, ECCV 2018, arXiv 1808.01244.
        Zhou et al., Objects as Points, 2019, arXiv 1904.07850.

    Notes:
        mmdet takes probabilities and adds 1e-12 inside the logarithm, which is 0 in fp16: its loss is infinite at a
        saturated probability. With ``use_sigmoid=False`` this library bounds logarithms below by -100. A heatmap of
        half precision rounds values close to 1 to peaks: keep targets in float32.
    """

    example = examples.Example(_draw, (2, 3, 16, 16), PATH).probabilities_if("use_sigmoid", False)
    function = gaussian_focal_loss

    def __init__(
        self, alpha: float = 2.0, gamma: float = 4.0, use_sigmoid: bool = True, **options: Unpack[LossOptions]
    ) -> None:
        super().__init__(**options)
        self.alpha = checks.number(self, "alpha", alpha, low=0)
        self.gamma = checks.number(self, "gamma", gamma, low=0)
        self.use_sigmoid = checks.flag(self, "use_sigmoid", use_sigmoid)
