"""Distillation of independent logits: detectors with a sigmoid for each class, multi-label classification."""

from __future__ import annotations

from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core import BaseLoss, LossOptions, examples
from losses_core.kernels import definition
from losses_core.utils import checks
from losses_distill._inputs import check_temperature, prepare_teacher

__all__ = ["BinaryKDLoss", "binary_kd_loss"]


def _prepare(pred: Tensor, target: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    target = prepare_teacher(target)
    checks.same_shape(pred, target)
    check_temperature(options["temperature"])
    return pred, target, options


@definition(layout="elements", prepare=_prepare)
def binary_kd_loss(pred: Tensor, target: Tensor, *, temperature: float | Tensor = 1.0) -> Tensor:
    """Compute the divergence between the probabilities of each logit, unreduced: see `BinaryKDLoss`.

    Args:
        pred: logits of the student, any shape.
        target: logits of the teacher, of the shape of ``pred``.
        temperature: T > 0; a 0-d tensor gets a gradient.

    Returns:
        The shape of ``pred``.
    """
    # with both signs turned where the teacher's logit is positive, which changes nothing, p and q are what is small
    sign, lowest = torch.where(target > 0, -1, 1), torch.finfo(pred.dtype).min
    student, teacher = (z * sign / temperature for z in (pred, target))
    student, teacher = (z.masked_fill(z == -torch.inf, lowest) for z in (student, teacher))  # their difference is NaN
    value = F.logsigmoid(-teacher) - F.logsigmoid(-student) + (teacher - student) * torch.sigmoid(teacher)
    return (value - value.detach().clamp(max=0)) * (temperature * temperature)


class BinaryKDLoss(BaseLoss):
    r"""Kullback-Leibler divergence between the probabilities that teacher and student give to each class on its own.

    With :math:`q = \sigma(z_t/T)` of the teacher and :math:`p = \sigma(z_s/T)` of the student, for each logit

    .. math::
        l = T^2 \left( q \log\frac{q}{p} + (1-q) \log\frac{1-q}{1-p} \right)

    Use when: the classes are independent, with a sigmoid for each: detectors (YOLO, RetinaNet, DETR) and multi-label
    classification. A softmax over the classes, as in `KnowledgeDistillationLoss`, is the usual mistake: it is blind to
    how sure the teacher is that there is nothing.

    Args:
        temperature: T > 0. Default: 1. May be given per call, also as a 0-d tensor, which gets a gradient.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits of the student, any shape.
        - target: logits of the teacher, of the shape of pred.
        - weight: of the shape of pred or a leading-dims prefix of it: the mask or the scores of the anchors, say.

    Returns:
        0-d for ``mean`` (over all elements; with ``avg_factor`` over the positives, say) and ``sum``; the shape of pred
        for ``none``.

    Raises:
        InputError: shapes that differ; a temperature that is not positive.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = BinaryKDLoss(reduction="none")
        >>> loss(torch.tensor([2.0, 0.0]), torch.tensor([2.0, 3.0]))
        tensor([0.0000, 0.5023])

    References:
        Yang et al., Bridging Cross-task Protocol Inconsistency for Distillation in Dense Object Detection, ICCV 2023,
        arXiv 2308.14286.

    Notes:
        The loss is exactly 0, with gradient 0, where both logits are equal. Binary cross-entropy with the teacher's
        probabilities as target, as in the paper, has the same gradient and another value: it lacks the teacher's
        entropy. Both terms are differences of logarithms of sigmoids, so that a logit of thousands is exact.
    """

    function = binary_kd_loss
    example = examples.LOGITS
    per_call = ("temperature",)

    def __init__(self, temperature: float = 1.0, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.temperature = checks.number(self, "temperature", temperature, above=0)
