"""Losses of rotated boxes."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from losses_core import BaseLoss, LossOptions, examples
from losses_core.errors import ConfigError
from losses_core.utils import checks
from losses_det._gaussians import ANGLE_UNITS, TRANSFORMS, AngleUnit, Transform
from losses_det.iou_loss._base import average_over_coordinates
from losses_det.rotated_loss.functions import PROBIOU_MODES, ProbIoUMode, gwd_loss, kld_loss, probiou_loss


def _draw(loss: Any, draw: examples.Draw) -> examples.Inputs:
    """Boxes in any direction that mostly overlap."""
    scale, low = torch.tensor([8.0, 8, 14, 8, 3]), torch.tensor([0.0, 0, 10, 4, -1.5])
    pred, target = (low + scale * draw.uniform(shape) for shape in (draw.pred, draw.target or draw.pred))
    return examples.Inputs(pred, target)


def _turned(stretch: float) -> Any:
    def at(loss: Any, t: Tensor) -> examples.Inputs:
        """A box of area 16 that is turned by t degrees."""
        unit = 1.0 if loss.angle_unit == "degree" else torch.pi / 180
        sides = torch.tensor([4 * stretch, 4 / stretch], dtype=torch.float64)
        target = torch.cat((torch.zeros(2), sides, torch.zeros(1)))[None]
        return examples.Inputs(torch.cat((torch.zeros(2), sides, t[None] * unit))[None], target)

    return at


ROTATED = examples.Example(
    _draw,
    (8, 5),
    examples.Path(
        "angle between the boxes, in degrees",
        "the angle",
        (-90, 90),
        {"sides 2 to 1": _turned(2**0.5), "sides 9 to 1": _turned(3.0)},
    ),
)


class RotatedLoss(BaseLoss):
    """Options and weights of the family: a weight of each number, (…,5), counts by its mean."""

    example = ROTATED

    def __init__(self, floor: float, angle_unit: AngleUnit = "radian", **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.floor = checks.number(self, "floor", floor, above=0)
        self.angle_unit = checks.choice(self, "angle_unit", angle_unit, ANGLE_UNITS)

    def _map_weight(self, weight: Tensor, pred: Tensor, target: Tensor) -> Tensor:
        return average_over_coordinates(weight, pred)

    def _check_tau(self, tau: float) -> float:
        checks.number(self, "tau", tau, low=0)
        if 0 < tau < 1:
            raise ConfigError(f"{type(self).__name__}: tau: expected 0 or a number >= 1; got {tau}.")
        return tau


class ProbIoULoss(RotatedLoss):
    r"""ProbIoU loss: the Hellinger distance of two rotated boxes as Gaussians.

    .. math::
        l = \sqrt{1 - e^{-B}}, \qquad
        B = \tfrac14 d^\top (\Sigma_p + \Sigma_t)^{-1} d
            + \tfrac12 \ln \frac{\det(\Sigma_p + \Sigma_t)}{4 \sqrt{\det \Sigma_p \det \Sigma_t}}

    with :math:`d` the difference of the centres, and :math:`\Sigma` the covariance of a box: variances
    :math:`w^2/12` and :math:`h^2/12` along its sides.

    Use when: regression of rotated boxes in general.

    Args:
        mode: ``l1`` √(1 - e^-B), in [0,1], without a gradient far away; ``l2`` B, which has one. Default: ``l1``.
        floor: added to both variances of both boxes, > 0. Boxes are in units of the stride in the codes that take 0.01;
            in pixels the same floor is weaker. Default: 0.01.
        angle_unit: ``radian`` or ``degree``. Default: ``radian``.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: boxes (…,5): cx, cy, w, h, angle. Any range of the angle works, as its sine and cosine alone count.
        - target: boxes of the shape of pred.
        - weight: (…) or a leading-dims prefix of it; or (…,5), which is averaged over its last axis.

    Returns:
        0-d for ``mean`` (Σ l / number of boxes, or / ``avg_factor``) and ``sum``, (…) for ``none``.

    Raises:
        InputError: a last axis that is not 5, unequal shapes.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = ProbIoULoss()
        >>> loss(torch.tensor([[0.0, 0.0, 4.0, 2.0, 0.5]]), torch.tensor([[1.0, 0.0, 4.0, 2.0, 0.0]]))
        tensor(0.3945)

    References:
        Llerena et al., Gaussian Bounding Boxes and Probabilistic Intersection-over-Union for Object Detection, 2021,
        arXiv 2106.06072.

    Notes:
        Equals 1 - ``probiou`` of ultralytics but for its eps: the loss of equal boxes is 4.5e-4 in ultralytics, exactly
        0 in this library. Squares have no gradient in the angle.
    """

    function = probiou_loss

    def __init__(
        self,
        mode: ProbIoUMode = "l1",
        floor: float = 0.01,
        angle_unit: AngleUnit = "radian",
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(floor, angle_unit, **options)
        self.mode = checks.choice(self, "mode", mode, PROBIOU_MODES)


class GWDLoss(RotatedLoss):
    r"""Gaussian Wasserstein distance of two rotated boxes.

    .. math::
        l = 1 - \frac{1}{\tau + f(D)}, \qquad
        D^2 = |d|^2 + \alpha^2 \left[ \operatorname{tr} \Sigma_p + \operatorname{tr} \Sigma_t
            - 2 \operatorname{tr} \left( \Sigma_p^{1/2} \Sigma_t \Sigma_p^{1/2} \right)^{1/2} \right]

    with :math:`d` the difference of the centres, and :math:`\Sigma` the covariance of a box: variances
    :math:`w^2/4` and :math:`h^2/4` along its sides.

    Use when: regression of rotated boxes whose angle or sides are ambiguous, as with squares.

    Args:
        fun: f: ``log1p`` ln(1 + D), ``sqrt`` √D or ``none`` D. Default: ``log1p``.
        tau: τ ≥ 1 for the formula above, or 0 for f itself. Default: 1.
        alpha: weight of the shape beside the centre > 0. Default: 1.
        normalize: divide D by 2 (det Σp det Σt)^(1/8), a size of both boxes. Default: True.
        floor: added to both variances of both boxes, > 0. Default: 1e-6.
        angle_unit: ``radian`` or ``degree``. Default: ``radian``.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: boxes (…,5): cx, cy, w, h, angle. Any range of the angle works, as its sine and cosine alone count.
        - target: boxes of the shape of pred.
        - weight: (…) or a leading-dims prefix of it; or (…,5), which is averaged over its last axis.

    Returns:
        0-d for ``mean`` (Σ l / number of boxes, or / ``avg_factor``) and ``sum``, (…) for ``none``.

    Raises:
        InputError: a last axis that is not 5, unequal shapes.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = GWDLoss()
        >>> loss(torch.tensor([[0.0, 0.0, 4.0, 2.0, 0.5]]), torch.tensor([[1.0, 0.0, 4.0, 2.0, 0.0]]))
        tensor(0.2603)

    References:
        Yang et al., Rethinking Rotated Object Detection with Gaussian Wasserstein Distance Loss, ICML 2021, arXiv
        2101.11952.

    Notes:
        Equals ``gwd_loss`` of mmrotate, whose configs leave ``tau=0``; the loss of equal boxes is 1e-5 in mmrotate,
        exactly 0 in this library.
    """

    function = gwd_loss

    def __init__(
        self,
        fun: Transform = "log1p",
        tau: float = 1.0,
        alpha: float = 1.0,
        normalize: bool = True,
        floor: float = 1e-6,
        angle_unit: AngleUnit = "radian",
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(floor, angle_unit, **options)
        self.fun = checks.choice(self, "fun", fun, TRANSFORMS)
        self.tau = self._check_tau(tau)
        self.alpha = checks.number(self, "alpha", alpha, above=0)
        self.normalize = checks.flag(self, "normalize", normalize)


class KLDLoss(RotatedLoss):
    r"""Kullback-Leibler divergence of the Gaussian of a target from that of a rotated box.

    .. math::
        l = 1 - \frac{1}{\tau + f(\sqrt K)}, \qquad
        K = \frac{1}{2 \alpha^2} d^\top \Sigma_p^{-1} d + \tfrac12 \operatorname{tr}(\Sigma_p^{-1} \Sigma_t)
            + \tfrac12 \ln \frac{\det \Sigma_p}{\det \Sigma_t} - 1

    with :math:`d` the difference of the centres, and :math:`\Sigma` the covariance of a box: variances
    :math:`w^2/4` and :math:`h^2/4` along its sides.

    Use when: regression of rotated boxes where high precision is asked for: the weight of each error follows from the
    shape of the box.

    Args:
        fun: f: ``log1p`` ln(1 + x), ``sqrt`` √x or ``none`` x. Default: ``log1p``.
        tau: τ ≥ 1 for the formula above, or 0 for f itself. Default: 1.
        alpha: weight of the shape beside the centre > 0. Default: 1.
        sqrt: f takes the root of K, else K. Default: True.
        floor: added to both variances of both boxes, > 0. Default: 1e-6.
        angle_unit: ``radian`` or ``degree``. Default: ``radian``.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: boxes (…,5): cx, cy, w, h, angle. Any range of the angle works, as its sine and cosine alone count.
        - target: boxes of the shape of pred.
        - weight: (…) or a leading-dims prefix of it; or (…,5), which is averaged over its last axis.

    Returns:
        0-d for ``mean`` (Σ l / number of boxes, or / ``avg_factor``) and ``sum``, (…) for ``none``.

    Raises:
        InputError: a last axis that is not 5, unequal shapes.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = KLDLoss()
        >>> loss(torch.tensor([[0.0, 0.0, 4.0, 2.0, 0.5]]), torch.tensor([[1.0, 0.0, 4.0, 2.0, 0.0]]))
        tensor(0.3430)

    References:
        Yang et al., Learning High-Precision Bounding Box for Rotated Object Detection via Kullback-Leibler Divergence,
        NeurIPS 2021, arXiv 2106.01883.

    Notes:
        Equals ``kld_loss`` of mmrotate's ``GDLoss``, which is NaN at a side of 0 and 3e-4 at equal boxes, exactly 0
        in this library. ``GDLoss_v1`` is 2 KL(pred ‖ target) without the root: another loss.
    """

    function = kld_loss

    def __init__(
        self,
        fun: Transform = "log1p",
        tau: float = 1.0,
        alpha: float = 1.0,
        sqrt: bool = True,
        floor: float = 1e-6,
        angle_unit: AngleUnit = "radian",
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(floor, angle_unit, **options)
        self.fun = checks.choice(self, "fun", fun, TRANSFORMS)
        self.tau = self._check_tau(tau)
        self.alpha = checks.number(self, "alpha", alpha, above=0)
        self.sqrt = checks.flag(self, "sqrt", sqrt)
