"""Knowledge distillation by softened probabilities (Hinton et al., 2015, arXiv 1503.02531)."""

from __future__ import annotations

from functools import partial
from typing import Unpack

from torch import Tensor

from losses_core import BaseLoss, CommonOptions, Unreduced, examples
from losses_core.errors import InputError
from losses_core.utils import checks, host
from losses_core.utils.precision import full_precision
from losses_core.utils.summed import Summed
from losses_distill._inputs import (
    check_class_dim,
    check_labels,
    check_temperature,
    class_axis,
    teacher_of,
    weight_on_logits,
)
from losses_distill.kd_loss._divergence import divergence
from losses_distill.kd_loss._divergence_host import summed_divergence
from losses_distill.kd_loss._softening import Softening, standardized

DIRECTIONS = ("forward", "reverse")


@full_precision
def kd_loss(
    pred: Tensor,
    target: Tensor,
    *,
    temperature: float | Tensor = 4.0,
    kl_direction: str = "forward",
    class_dim: int | None = None,
    labels: Tensor | None = None,
    ignore_index: int = -100,
    logit_standardize: bool = False,
    teacher_detach: bool = True,
) -> Tensor:
    """Divergence between the softened probabilities of teacher and student, unreduced.

    See `KnowledgeDistillationLoss`.

    Args:
        pred: logits of the student, (N,C,*S) or the classes on ``class_dim``.
        target: logits of the teacher, of the shape of ``pred``.
        temperature: T > 0; a 0-d tensor gets a gradient.
        kl_direction: ``'forward'``, KL(teacher ‖ student), or ``'reverse'``.
        class_dim: axis of the classes; None: axis 1 of 2-, 4- and 5-D logits.
        labels: positions where they equal ``ignore_index`` cost nothing; of the shape of pred without its class axis.
        ignore_index: see ``labels``.
        logit_standardize: standardise the logits of each position first.
        teacher_detach: no gradient reaches ``target``.

    Returns:
        The shape of ``pred`` without its class axis.
    """
    axis, target, labels = _checked(pred, target, labels, temperature, class_dim, teacher_detach)
    if kl_direction not in DIRECTIONS:
        raise InputError(f"kl_direction: expected one of {', '.join(map(repr, DIRECTIONS))}; got {kl_direction!r}.")
    hidden = None if labels is None else labels == ignore_index
    student, teacher, factor = pred, target, None
    if isinstance(temperature, Tensor):
        # a temperature that learns: the division is recorded, and the rest has temperature 1
        if logit_standardize:
            student, teacher = standardized(student, axis)[0], standardized(teacher, axis)[0]
        student, teacher, factor = student / temperature, teacher / temperature, temperature * temperature
        softening = Softening(axis, 1.0)
    else:
        softening = Softening(axis, float(temperature), logit_standardize)
    true, model = (teacher, student) if kl_direction == "forward" else (student, teacher)
    value = divergence(true, model, hidden, softening)
    return value if factor is None else value * factor


def _checked(
    pred: Tensor,
    target: Tensor,
    labels: Tensor | None,
    temperature: float | Tensor,
    class_dim: int | None,
    teacher_detach: bool,
) -> tuple[int, Tensor, Tensor | None]:
    """The class axis, the teacher's logits and the labels."""
    axis = class_axis(pred, class_dim)
    target = teacher_of(target, pred, detach=teacher_detach)
    checks.same_shape(pred, target)
    check_temperature(temperature)
    return axis, target, None if labels is None else check_labels(labels, pred, axis)


class KnowledgeDistillationLoss(BaseLoss):
    r"""Kullback-Leibler divergence between the softened probabilities of a teacher and a student.

    With :math:`q = \operatorname{softmax}(z_t/T)` of the teacher and :math:`p = \operatorname{softmax}(z_s/T)` of the
    student, for each sample or position

    .. math::
        l_\text{forward} = T^2\, \mathrm{KL}(q \,\|\, p) = T^2 \sum_c q_c (\log q_c - \log p_c), \qquad
        l_\text{reverse} = T^2\, \mathrm{KL}(p \,\|\, q) = T^2 \sum_c p_c (\log p_c - \log q_c)

    The mean divides by the number of positions, ``batchmean`` by N; for (N,C) logits they are equal.

    Use when: a small model is to learn from the outputs of a larger one, beside its task loss; with
    ``logit_standardize`` where the two differ much in the scale of their logits; ``reverse`` where the student should
    rather concentrate on a part of the teacher's modes than cover all (language models).

    Args:
        temperature: T > 0: the larger, the more the small probabilities count. Default: 4. May be given per call, also
            as a 0-d tensor that learns.
        reduction: ``'none'``, ``'mean'``, ``'sum'`` or ``'batchmean'``. Default: ``'batchmean'``.
        kl_direction: ``'forward'``, KL(teacher ‖ student), or ``'reverse'``, KL(student ‖ teacher). Default:
            ``'forward'``.
        class_dim: axis of the classes. Default: None, axis 1 of 2-, 4- and 5-D logits; 3-D logits need it.
        ignore_index: positions with this label cost nothing, where the call gives ``labels=``. Default: -100. May also
            be given per call.
        logit_standardize: replace the logits of each position by (z - mean)/std first. Default: False.
        teacher_detach: no gradient reaches the teacher; False for mutual learning. Default: True.
        **options: ``loss_weight``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits of the student, (N,C), (N,C,H,W), (N,C,D,H,W); any shape with ``class_dim``, (N,L,C) say.
        - target: logits of the teacher, of the shape of pred.
        - labels: optional, at the call: integer, the shape of pred without its class axis.
        - weight: of the shape of pred without its class axis, or a leading-dims prefix of it.

    Returns:
        0-d for ``batchmean``, ``mean`` and ``sum``; the shape of pred without its class axis for ``none``.

    Raises:
        InputError: shapes that differ; 3-D logits without ``class_dim``; a temperature that is not positive.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = KnowledgeDistillationLoss(temperature=2.0)
        >>> student = torch.tensor([[1.0, 0.0, 0.0]], requires_grad=True)
        >>> loss(student, torch.tensor([[3.0, 0.0, 0.0]]))
        tensor(0.4673, grad_fn=<...>)

    References:
        Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network, NIPS workshop 2014, arXiv 1503.02531.
        Sun et al., Logit Standardization in Knowledge Distillation, CVPR 2024, arXiv 2403.01427.

    Notes:
        The usual shorthand KL(softmax(z_s/T) ‖ softmax(z_t/T)) names the reverse direction, while every well-known
        implementation computes the forward one; both are written out above. Logits of -inf in teacher and student cost
        0 (torch's ``kl_div`` of logarithms: NaN). Kept for the backward are the teacher's logits, which the caller
        holds anyway, and one tensor of their size: no softmax of either. The std of ``logit_standardize`` is that of
        the paper, over C; the authors' code takes C - 1. mmrazor averages dense logits over N, as ``batchmean`` does
        here; ``mean`` averages over positions.
    """

    example = examples.LOGITS
    reductions = ("none", "mean", "sum", "batchmean")

    def __init__(
        self,
        temperature: float = 4.0,
        reduction: str = "batchmean",
        kl_direction: str = "forward",
        class_dim: int | None = None,
        ignore_index: int = -100,
        logit_standardize: bool = False,
        teacher_detach: bool = True,
        **options: Unpack[CommonOptions],
    ) -> None:
        super().__init__(reduction=reduction, **options)
        self.temperature = checks.number(self, "temperature", temperature, above=0)
        self.kl_direction = checks.choice(self, "kl_direction", kl_direction, DIRECTIONS)
        self.class_dim = check_class_dim(self, class_dim)
        self.ignore_index = checks.number(self, "ignore_index", ignore_index, integer=True)
        self.logit_standardize = checks.flag(self, "logit_standardize", logit_standardize)
        self.teacher_detach = checks.flag(self, "teacher_detach", teacher_detach)

    def _on_pred(self, weight: Tensor, pred: Tensor) -> Tensor | None:
        return weight_on_logits(weight, pred, self.class_dim)

    def _forward(
        self,
        pred: Tensor,
        target: Tensor,
        *,
        temperature: float | Tensor,
        ignore_index: int,
        labels: Tensor | None = None,
    ) -> Unreduced | Summed:
        def elements() -> Tensor:
            return kd_loss(
                pred,
                target,
                temperature=temperature,
                kl_direction=self.kl_direction,
                class_dim=self.class_dim,
                labels=labels,
                ignore_index=ignore_index,
                logit_standardize=self.logit_standardize,
                teacher_detach=self.teacher_detach,
            )

        plain = self.kl_direction == "forward" and not self.logit_standardize and not isinstance(temperature, Tensor)
        if plain and host.on_host(pred, target):
            axis, teacher, index = _checked(pred, target, labels, temperature, self.class_dim, self.teacher_detach)
            if not teacher.requires_grad:
                hidden = None if index is None or host.absent(ignore_index, index) else index == ignore_index
                return Summed(
                    pred,
                    elements,
                    partial(summed_divergence, pred, teacher, hidden, axis, float(temperature)),
                    pred.numel() // max(pred.shape[axis], 1),
                    None if hidden is None else ~hidden,
                )
        return Unreduced(elements(), None if labels is None else labels != ignore_index)


KDLoss = KnowledgeDistillationLoss
