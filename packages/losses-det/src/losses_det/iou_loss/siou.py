"""SIoU (Gevorgyan, 2022, arXiv 2205.12740)."""

from __future__ import annotations

from typing import Unpack

from losses_core import LossOptions
from losses_core.utils import checks
from losses_core.utils.boxes import BoxFormat
from losses_det._geometry import Mode
from losses_det.iou_loss._base import PenalizedBoxLoss
from losses_det.iou_loss.functions import siou_loss


class SIoULoss(PenalizedBoxLoss):
    r"""SIoU loss: overlap, a distance weighted by its angle, and shape.

    .. math::
        l = 1 - \mathrm{IoU} + \frac{\Delta + \Omega}{2}, \qquad
        \Delta = \sum_{t = x, y} 1 - e^{-(2 - \Lambda)\, (d_t / e_t)^2}, \quad
        \Omega = \sum_{t = w, h} \left( 1 - e^{-|t - t'| / \max(t, t')} \right)^\theta

    with :math:`\Lambda = \sin 2\alpha` of the direction :math:`\alpha` of the centres, :math:`d_t` their distance along
    an axis and :math:`e_t` the side of the smallest box around both.

    Use when: box regression in general; the angle lets a prediction reach the nearer axis first.

    Args:
        eps: lower bound of every denominator > 0, never added: the loss of equal boxes is exactly 0. Default: 1e-6.
        mode: f: ``linear`` or ``iou`` 1 - IoU, ``log`` -ln max(IoU, eps), ``square`` 1 - IoU². Default: ``linear``.
        bbox_format: ``xyxy``, ``xywh`` = ``cxcywh`` (centre, size) or ``ltwh`` (corner, size). Default: ``xyxy``.
        theta: exponent of the shape term ≥ 1, from 2 to 6 in the paper. Default: 4.
        power: exponent of the IoU and of each penalty ≥ 1, with ``linear`` alone; Alpha-IoU takes 3. Default: 1.
        inner_ratio: f takes the IoU of both boxes scaled about their centres by it, > 0 (Inner-IoU). Default: None.
        focal_gamma: the loss is multiplied by IoU^γ, a constant in the gradient, ≥ 0 (Focal-EIoU). Default: 0.
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
        >>> loss = SIoULoss()
        >>> loss(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 0.0, 3.0, 2.0]]))
        tensor(0.7663)

    References:
        Gevorgyan, SIoU Loss: More Powerful Learning for Bounding Box Regression, 2022, arXiv 2205.12740.

    Notes:
        The loss grows as boxes move apart; mmdet's falls to 0 with its default, by a sign. In the paper's terms
        sin 2α = 1 - 2 sin²(arcsin(|dy|/d) - π/4). A theta below 1 is refused: its gradient is infinite at equal sizes.
    """

    function = siou_loss

    def __init__(
        self,
        eps: float = 1e-6,
        mode: Mode = "linear",
        bbox_format: BoxFormat = "xyxy",
        theta: float = 4.0,
        power: float = 1.0,
        inner_ratio: float | None = None,
        focal_gamma: float = 0.0,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(eps, mode, bbox_format, power, inner_ratio, focal_gamma, **options)
        self.theta = checks.number(self, "theta", theta, low=1)
