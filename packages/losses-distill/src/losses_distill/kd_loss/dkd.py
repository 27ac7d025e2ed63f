"""Decoupled knowledge distillation (Zhao et al., CVPR 2022, arXiv 2203.08679)."""

from __future__ import annotations

import functools
from functools import partial
from typing import Unpack

import torch
from torch import Tensor

from losses_core import BaseLoss, LossOptions, Unreduced, examples
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
from losses_distill._warn import warn_user
from losses_distill.kd_loss._decoupled import Decoupled, DecoupledDivergence, TracedDivergence
from losses_distill.kd_loss._decoupled_host import summed_decoupled


@full_precision
def dkd_loss(
    pred: Tensor,
    target: Tensor,
    labels: Tensor,
    *,
    temperature: float | Tensor = 4.0,
    alpha: float = 1.0,
    beta: float = 8.0,
    class_dim: int | None = None,
    ignore_index: int = -100,
    teacher_detach: bool = True,
) -> Tensor:
    """Decoupled distillation of the true class and of the others, unreduced: see `DKDLoss`.

    Args:
        pred: logits of the student, (N,C,*S) or the classes on ``class_dim``.
        target: logits of the teacher, of the shape of ``pred``.
        labels: class indices, of the shape of ``pred`` without its class axis.
        temperature: T > 0; a 0-d tensor gets a gradient.
        alpha: weight of the part of the true class.
        beta: weight of the part of the other classes.
        class_dim: axis of the classes; None: axis 1 of 2-, 4- and 5-D logits.
        ignore_index: label whose loss and gradient are 0.
        teacher_detach: no gradient reaches ``target``.

    Returns:
        The shape of ``labels``.
    """
    axis, target, labels = _checked(pred, target, labels, temperature, class_dim, teacher_detach)
    if pred.shape[axis] == 1:  # both parts are divergences of sure things
        return pred.narrow(axis, 0, 0).sum(axis)
    if isinstance(temperature, Tensor):
        formula = Decoupled(axis, 1.0, alpha, beta, ignore_index)
        value: Tensor = DecoupledDivergence.apply(pred / temperature, target / temperature, labels, formula)
        return value * (temperature * temperature)
    formula = Decoupled(axis, float(temperature), alpha, beta, ignore_index)
    if torch.compiler.is_compiling() and not target.requires_grad:
        return TracedDivergence.apply(pred, target, labels, formula)[0]  # type: ignore[no-any-return]
    return DecoupledDivergence.apply(pred, target, labels, formula)  # type: ignore[no-any-return]


def _checked(
    pred: Tensor,
    target: Tensor,
    labels: Tensor,
    temperature: float | Tensor,
    class_dim: int | None,
    teacher_detach: bool,
) -> tuple[int, Tensor, Tensor]:
    """The class axis, the teacher's logits and the labels."""
    axis = class_axis(pred, class_dim)
    target = teacher_of(target, pred, detach=teacher_detach)
    checks.same_shape(pred, target)
    check_temperature(temperature)
    labels = check_labels(labels, pred, axis)
    if pred.shape[axis] == 2 and not torch.compiler.is_compiling():
        _warn_two_classes()
    return axis, target, labels


@functools.cache
def _warn_two_classes() -> None:
    warn_user(
        "DKDLoss with two classes: one class is left beside the true one, so the part weighted by beta is 0. "
        "KnowledgeDistillationLoss does the same without labels."
    )


class DKDLoss(BaseLoss):
    r"""Knowledge distillation that weighs the true class and the other classes on their own.

    With :math:`q, p` the softened probabilities of teacher and student, :math:`t` the label and
    :math:`\hat q_c = q_c/(1-q_t)`, :math:`\hat p_c = p_c/(1-p_t)` those of the other classes among themselves,

    .. math::
        l = T^2 (\alpha\,\mathrm{TCKD} + \beta\,\mathrm{NCKD}), \qquad
        \mathrm{TCKD} = q_t \log\frac{q_t}{p_t} + (1-q_t) \log\frac{1-q_t}{1-p_t}, \qquad
        \mathrm{NCKD} = \sum_{c \ne t} \hat q_c \log\frac{\hat q_c}{\hat p_c}

    Knowledge distillation itself is :math:`\mathrm{TCKD} + (1-q_t)\,\mathrm{NCKD}`: where the teacher is sure, it
    hardly tells the other classes apart.

    Use when: classification with labels and a confident teacher, whose knowledge lies in the classes it rules out.

    Args:
        temperature: T > 0. Default: 4. May be given per call, also as a 0-d tensor that learns.
        alpha: weight of the true class ≥ 0. Default: 1.
        beta: weight of the other classes ≥ 0. Default: 8.
        class_dim: axis of the classes. Default: None, axis 1 of 2-, 4- and 5-D logits; 3-D logits need it.
        ignore_index: label that costs nothing and gets no gradient. Default: -100. May also be given per call.
        teacher_detach: no gradient reaches the teacher; False for mutual learning. Default: True.
        **options: ``loss_weight``, ``reduction`` (``'batchmean'``, the sum over N, too), ``avg_factor``, ``loss_name``,
            ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits of the student, (N,C), (N,C,H,W), (N,C,D,H,W); any shape with ``class_dim``, (N,L,C) say.
        - target: logits of the teacher, of the shape of pred.
        - labels: at the call, required: integer, values in [0,C) or ``ignore_index``; pred without its class axis.
        - weight: of the shape of the labels or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` (over the labels not ignored), ``batchmean`` and ``sum``; the shape of the labels for ``none``.

    Raises:
        TypeError: a call without ``labels=``.
        InputError: shapes that differ; 3-D logits without ``class_dim``; a temperature that is not positive.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = DKDLoss(temperature=1.0, beta=2.0)
        >>> student = torch.tensor([[1.0, 0.0, 0.0]], requires_grad=True)
        >>> loss(student, torch.tensor([[3.0, 1.0, 0.0]]), labels=torch.tensor([0]))
        tensor(0.3879, grad_fn=<...>)

    References:
        Zhao et al., Decoupled Knowledge Distillation, CVPR 2022, arXiv 2203.08679, eq. 7.

    Notes:
        Computed from log-sum-exps, so that logit gaps of thousands are exact; the authors' code takes logarithms of
        probabilities and is inf at a gap of 160. It subtracts 1000 from the logit of the true class, which here is left
        out exactly. With two classes NCKD is 0, and a warning says so once.
    """

    example = examples.LOGITS
    reductions = ("none", "mean", "sum", "batchmean")

    def __init__(
        self,
        temperature: float = 4.0,
        alpha: float = 1.0,
        beta: float = 8.0,
        class_dim: int | None = None,
        ignore_index: int = -100,
        teacher_detach: bool = True,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.temperature = checks.number(self, "temperature", temperature, above=0)
        self.alpha = checks.number(self, "alpha", alpha, low=0)
        self.beta = checks.number(self, "beta", beta, low=0)
        self.class_dim = check_class_dim(self, class_dim)
        self.ignore_index = checks.number(self, "ignore_index", ignore_index, integer=True)
        self.teacher_detach = checks.flag(self, "teacher_detach", teacher_detach)

    def _on_pred(self, weight: Tensor, pred: Tensor) -> Tensor | None:
        return weight_on_logits(weight, pred, self.class_dim)

    def _forward(
        self, pred: Tensor, target: Tensor, *, labels: Tensor, temperature: float | Tensor, ignore_index: int
    ) -> Unreduced | Summed:
        def elements() -> Tensor:
            return dkd_loss(
                pred,
                target,
                labels,
                temperature=temperature,
                alpha=self.alpha,
                beta=self.beta,
                class_dim=self.class_dim,
                ignore_index=ignore_index,
                teacher_detach=self.teacher_detach,
            )

        if not isinstance(temperature, Tensor) and host.on_host(pred, target):
            axis, teacher, index = _checked(pred, target, labels, temperature, self.class_dim, self.teacher_detach)
            if pred.shape[axis] > 1 and not teacher.requires_grad:
                formula = Decoupled(axis, float(temperature), self.alpha, self.beta, ignore_index)
                complete = host.absent(ignore_index, index)
                return Summed(
                    pred,
                    elements,
                    partial(summed_decoupled, pred, teacher, index, formula, complete),
                    index.numel(),
                    None if complete else index != ignore_index,
                )
        return Unreduced(elements(), labels != ignore_index)
