"""The IoU family of box losses."""

from __future__ import annotations

from typing import Unpack

from losses_core import LossOptions
from losses_core.utils.boxes import BoxFormat
from losses_det._geometry import Mode
from losses_det.iou_loss._base import PenalizedBoxLoss
from losses_det.iou_loss.functions import ciou_loss, diou_loss, eiou_loss, giou_loss, iou_loss


class IoULoss(PenalizedBoxLoss):
    r"""IoU loss: the overlap of two boxes alone.

    .. math::
        l = -\ln \mathrm{IoU}, \qquad \mathrm{IoU} = \frac{|A \cap B|}{|A \cup B|}

    Use when: box regression where predictions overlap their targets from the start, as in anchor-free heads.

    Args:
        eps: lower bound of every denominator > 0, never added: the loss of equal boxes is exactly 0. Default: 1e-6.
        mode: f: ``linear`` or ``iou`` 1 - IoU, ``log`` -ln max(IoU, eps), ``square`` 1 - IoU². Default: ``log``.
        bbox_format: ``xyxy``, ``xywh`` = ``cxcywh`` (centre, size) or ``ltwh`` (corner, size). Default: ``xyxy``.
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
        >>> loss = IoULoss()
        >>> loss(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 0.0, 3.0, 2.0]]))
        tensor(1.0986)

    References:
        Yu et al., UnitBox: An Advanced Object Detection Network, ACM MM 2016, arXiv 1608.01471.

    Notes:
        The loss of boxes that do not overlap is -ln eps in ``log`` (1 in the other modes), without a gradient: use one
        of the other five losses where that happens. In those ``mode`` replaces only the first term; its default is
        ``linear``.
    """

    function = iou_loss

    def __init__(
        self,
        eps: float = 1e-6,
        mode: Mode = "log",
        bbox_format: BoxFormat = "xyxy",
        power: float = 1.0,
        inner_ratio: float | None = None,
        focal_gamma: float = 0.0,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(eps, mode, bbox_format, power, inner_ratio, focal_gamma, **options)


class GIoULoss(PenalizedBoxLoss):
    r"""Generalised IoU loss: also has a gradient for boxes that do not overlap.

    .. math::
        l = 1 - \mathrm{IoU} + \frac{|E| - |A \cup B|}{|E|}

    with :math:`E` the smallest box around both.

    Use when: box regression in general; the companion of L1 in transformer detectors.

    Args:
        eps: lower bound of every denominator > 0, never added: the loss of equal boxes is exactly 0. Default: 1e-6.
        mode: f: ``linear`` or ``iou`` 1 - IoU, ``log`` -ln max(IoU, eps), ``square`` 1 - IoU². Default: ``linear``.
        bbox_format: ``xyxy``, ``xywh`` = ``cxcywh`` (centre, size) or ``ltwh`` (corner, size). Default: ``xyxy``.
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
        >>> loss = GIoULoss()
        >>> loss(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 0.0, 3.0, 2.0]]))
        tensor(0.6667)

    References:
        Rezatofighi et al., Generalized Intersection over Union, CVPR 2019, arXiv 1902.09630.

    Notes:
        Equals torchvision's ``generalized_box_iou_loss`` but for its eps, which is added.
    """

    function = giou_loss


class DIoULoss(PenalizedBoxLoss):
    r"""Distance IoU loss: overlap and distance of the centres.

    .. math::
        l = 1 - \mathrm{IoU} + \frac{d^2}{c^2}

    with :math:`d` the distance of the centres and :math:`c` the diagonal of the smallest box around both.

    Use when: box regression where boxes lie inside one another, where GIoU reduces to IoU.

    Args:
        eps: lower bound of every denominator > 0, never added: the loss of equal boxes is exactly 0. Default: 1e-6.
        mode: f: ``linear`` or ``iou`` 1 - IoU, ``log`` -ln max(IoU, eps), ``square`` 1 - IoU². Default: ``linear``.
        bbox_format: ``xyxy``, ``xywh`` = ``cxcywh`` (centre, size) or ``ltwh`` (corner, size). Default: ``xyxy``.
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
        >>> loss = DIoULoss()
        >>> loss(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 0.0, 3.0, 2.0]]))
        tensor(0.7436)

    References:
        Zheng et al., Distance-IoU Loss, AAAI 2020, arXiv 1911.08287.

    Notes:
        Equals torchvision's ``distance_box_iou_loss`` but for its eps, which is added.
    """

    function = diou_loss


class CIoULoss(PenalizedBoxLoss):
    r"""Complete IoU loss: overlap, distance of the centres, aspect ratio.

    .. math::
        l = 1 - \mathrm{IoU} + \frac{d^2}{c^2} + \alpha v, \qquad
        v = \frac{4}{\pi^2} \left( \arctan\frac{w'}{h'} - \arctan\frac{w}{h} \right)^2, \quad
        \alpha = \frac{v}{1 - \mathrm{IoU} + v}

    with :math:`\alpha` a constant in the gradient, and :math:`w', h'` the sides of the target.

    Use when: box regression in general, the standard of the YOLO detectors.

    Args:
        eps: lower bound of every denominator > 0, never added: the loss of equal boxes is exactly 0. Default: 1e-6.
        mode: f: ``linear`` or ``iou`` 1 - IoU, ``log`` -ln max(IoU, eps), ``square`` 1 - IoU². Default: ``linear``.
        bbox_format: ``xyxy``, ``xywh`` = ``cxcywh`` (centre, size) or ``ltwh`` (corner, size). Default: ``xyxy``.
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
        >>> loss = CIoULoss()
        >>> loss(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 0.0, 3.0, 2.0]]))
        tensor(0.7436)

    References:
        Zheng et al., Distance-IoU Loss, AAAI 2020, arXiv 1911.08287.

    Notes:
        Equals torchvision's ``complete_box_iou_loss`` but for its eps, which is added. mmdet's is NaN for most equal
        boxes, and torchvision's gradient is NaN at height 0. The derivative of the angle, 1 / diagonal, is bounded
        where that is below √eps. Alpha is used whatever the overlap: some codes switch it on at IoU > 0.5.
    """

    function = ciou_loss


class EIoULoss(PenalizedBoxLoss):
    r"""Efficient IoU loss: overlap, distance of the centres, difference of each side.

    .. math::
        l = 1 - \mathrm{IoU} + \frac{d^2}{c^2} + \frac{(w - w')^2}{e_w^2} + \frac{(h - h')^2}{e_h^2}

    with :math:`e_w, e_h` the sides of the smallest box around both.

    Use when: box regression where sides are to converge one by one, which CIoU's aspect ratio does not ensure.

    Args:
        eps: lower bound of every denominator > 0, never added: the loss of equal boxes is exactly 0. Default: 1e-6.
        mode: f: ``linear`` or ``iou`` 1 - IoU, ``log`` -ln max(IoU, eps), ``square`` 1 - IoU². Default: ``linear``.
        bbox_format: ``xyxy``, ``xywh`` = ``cxcywh`` (centre, size) or ``ltwh`` (corner, size). Default: ``xyxy``.
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
        >>> loss = EIoULoss()
        >>> loss(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 0.0, 3.0, 2.0]]))
        tensor(0.7436)

    References:
        Zhang et al., Focal and Efficient IOU Loss for Accurate Bounding Box Regression, Neurocomputing 2022, arXiv
        2101.08158.

    Notes:
        This is Efficient-IoU; mmdet's ``EIoULoss`` is another, Extended-IoU. Equals `DIoULoss` where the sizes agree.
    """

    function = eiou_loss
