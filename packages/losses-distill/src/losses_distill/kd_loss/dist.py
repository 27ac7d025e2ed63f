"""Distillation from a stronger teacher (Huang et al., NeurIPS 2022, arXiv 2205.10536)."""

from __future__ import annotations

from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core import BaseLoss, ConfigError, InputError, LossOptions, Unreduced, examples
from losses_core.distributed import ProcessGroup, all_reduce_sum
from losses_core.utils import checks, host
from losses_core.utils.precision import full_precision
from losses_core.utils.weight_reduce import Reduction
from losses_distill._inputs import check_class_dim, check_temperature, class_axis, refuse_weight, teacher_of
from losses_distill.kd_loss._pearson import Correlation, correlate, mean, pearson
from losses_distill.kd_loss._pearson_host import correlation


@full_precision
def dist_loss(
    pred: Tensor,
    target: Tensor,
    *,
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: float | Tensor = 1.0,
    eps: float = 1e-8,
    class_dim: int | None = None,
) -> Tensor:
    """Pearson correlation between the probabilities of student and teacher, along rows and columns: see `DISTLoss`.

    Args:
        pred: logits of the student, (N,C,*S) or the classes on ``class_dim``.
        target: logits of the teacher, of the shape of ``pred``.
        beta: weight of the rows.
        gamma: weight of the columns.
        temperature: τ > 0; a 0-d tensor gets a gradient.
        eps: rows and columns whose centred norm does not exceed it (1e-6 at least in float32) are left out.
        class_dim: axis of the classes; None: axis 1 of 2-, 4- and 5-D logits.

    Returns:
        0-d.
    """
    student, teacher = _logits(pred, target, temperature, class_dim)
    least = _least(eps, student)
    if not isinstance(temperature, Tensor) and host.on_host(student, teacher) and student.numel():
        return correlation(student, teacher, beta, gamma, float(temperature), least) * float(temperature) ** 2
    p, q, factor = _probabilities(student, teacher, temperature)
    if q.requires_grad:  # a temperature that learns
        value = beta * mean(pearson(p, q, 1, least)) + gamma * mean(pearson(p, q, 0, least))
    else:
        value = Correlation.apply(p, q, beta, gamma, least)[0]
    return value * factor


def _logits(pred: Tensor, target: Tensor, temperature: float | Tensor, class_dim: int | None) -> tuple[Tensor, Tensor]:
    """Logits of student and teacher, one row per position."""
    axis = class_axis(pred, class_dim)
    target = teacher_of(target, pred)
    checks.same_shape(pred, target)
    check_temperature(temperature)
    return _positions(pred, axis), _positions(target, axis)


def _probabilities(
    student: Tensor, teacher: Tensor, temperature: float | Tensor
) -> tuple[Tensor, Tensor, float | Tensor]:
    """Probabilities of student and teacher, and τ²."""
    if isinstance(temperature, Tensor) or temperature != 1:
        student, teacher = student / temperature, teacher / temperature
    return F.softmax(student, 1), F.softmax(teacher, 1), temperature * temperature


def _positions(logits: Tensor, axis: int) -> Tensor:
    """(N,C,*S) → (N·S, C)"""
    return logits if logits.ndim == 2 else logits.movedim(axis, -1).flatten(0, -2)


def _least(eps: float, p: Tensor) -> float:
    """The centred norm up to which a row or column of probabilities counts as constant."""
    return eps if p.dtype == torch.float64 else max(eps, 1e-6)


def _over_ranks(p: Tensor, q: Tensor, beta: float, gamma: float, least: float, group: ProcessGroup | None) -> Tensor:
    """The loss of the rows of all ranks, from sums: of rows, then of columns about the common mean."""
    rows = pearson(p, q, 1, least)
    classes = p.shape[1]
    numbers = torch.stack([rows.number, torch.full_like(rows.number, p.shape[0])]).to(p.dtype)
    sums = all_reduce_sum(torch.cat([p.sum(0), q.sum(0), rows.total.unsqueeze(0), numbers]), group)
    total, number, samples = sums[-3:].unbind()
    mean_p, mean_q = (sums[:-3] / samples.clamp(min=1)).split(classes)
    a, b = p - mean_p, q - mean_q
    squares = all_reduce_sum(torch.stack([(a * a).sum(0), (b * b).sum(0), (a * b).sum(0)]), group)
    column_total, column_number, _, _ = correlate(squares[0], squares[1], squares[2], least)
    return beta * total / number.clamp(min=1) + gamma * column_total / column_number.clamp(min=1)


class DISTLoss(BaseLoss):
    r"""Correlation, instead of equality, between the probabilities of a student and of a stronger teacher.

    With :math:`P, Q` the (N,C) probabilities of student and teacher and :math:`\rho` Pearson's correlation,

    .. math::
        l = \tau^2 \left[ \beta \Big(1 - \frac1N \sum_n \rho(P_{n,:}, Q_{n,:})\Big)
            + \gamma \Big(1 - \frac1C \sum_c \rho(P_{:,c}, Q_{:,c})\Big) \right]

    the relations between the classes of a sample, and between the samples of a class.

    Use when: the teacher is much stronger than the student, or trained with a better recipe, so that matching its
    probabilities exactly hurts.

    Args:
        beta: weight of the rows (inter-class relation) ≥ 0. Default: 1.
        gamma: weight of the columns (intra-class relation) ≥ 0. Default: 1.
        temperature: τ > 0. Default: 1. May be given per call, also as a 0-d tensor that learns.
        eps: a row or column whose centred norm does not exceed it, or 1e-6 in float32, is constant: it has no
            correlation, is left out of the mean and gets no gradient. Default: 1e-8.
        class_dim: axis of the classes. Default: None, axis 1 of 2-, 4- and 5-D logits; 3-D logits need it.
        **options: ``loss_weight``, ``reduction`` (``'mean'`` or ``'sum'``, which are the same), ``loss_name``,
            ``sync_dist`` of `BaseLoss`; ``avg_factor`` is refused.

    Shape:
        - pred: logits of the student, (N,C), (N,C,H,W), (N,C,D,H,W); any shape with ``class_dim``, (N,L,C) say. The
          rows of dense logits are their positions.
        - target: logits of the teacher, of the shape of pred.

    Returns:
        0-d: the loss belongs to the batch.

    Raises:
        InputError: shapes that differ; 3-D logits without ``class_dim``; a weight, ``avg_factor`` or reduction
            ``none``.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = DISTLoss(gamma=0.0)
        >>> student = torch.tensor([[1.0, 0.0, 0.0], [2.0, 1.0, 0.0]], requires_grad=True)
        >>> loss(student, torch.tensor([[3.0, 0.0, 0.0], [3.0, 0.0, 1.0]]))
        tensor(0.0293, grad_fn=<...>)

    References:
        Huang et al., Knowledge Distillation from A Stronger Teacher, NeurIPS 2022, arXiv 2205.10536, eq. 8-10.

    Notes:
        With one row there are no columns to correlate, and that part is 0. The authors' code adds eps to the norms;
        here a norm is exact or the row is left out. The paper trains with β = γ = 2, τ = 1 on ImageNet and τ = 4 on
        CIFAR-100.
    """

    example = examples.CORRELATED
    reductions = ("mean", "sum")

    def __init__(
        self,
        beta: float = 1.0,
        gamma: float = 1.0,
        temperature: float = 1.0,
        eps: float = 1e-8,
        class_dim: int | None = None,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        if self.avg_factor is not None:
            raise ConfigError(
                "DISTLoss: avg_factor: the loss is one number for the batch, with no denominator; drop it."
            )
        self.beta = checks.number(self, "beta", beta, low=0)
        self.gamma = checks.number(self, "gamma", gamma, low=0)
        self.temperature = checks.number(self, "temperature", temperature, above=0)
        self.eps = checks.number(self, "eps", eps, low=0)
        self.class_dim = check_class_dim(self, class_dim)

    def _map_weight(self, weight: Tensor, pred: Any, target: Any) -> Tensor:
        return refuse_weight()

    def _evaluate(
        self,
        pred: Any,
        target: Any,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
        **kwargs: Any,
    ) -> Reduction:
        if avg_factor is not None:
            raise InputError(
                "avg_factor: the loss is one number for the batch, with no denominator; drop it.", where="DISTLoss"
            )
        return super()._evaluate(pred, target, weight, avg_factor, reduction_override, **kwargs)

    def _forward(self, pred: Tensor, target: Tensor, *, temperature: float | Tensor) -> Tensor | Unreduced:
        if self._synchronises():
            # the batch is that of all ranks: their rows are no sum of losses, but of what correlations are made of
            p, q, factor = _probabilities(*_logits(pred, target, temperature, self.class_dim), temperature)
            value = _over_ranks(p, q, self.beta, self.gamma, _least(self.eps, p), self.process_group)
            return Unreduced(value * factor, already_global=True)
        return dist_loss(
            pred,
            target,
            beta=self.beta,
            gamma=self.gamma,
            temperature=temperature,
            eps=self.eps,
            class_dim=self.class_dim,
        )
