"""Distillation from a stronger teacher (Huang et al., NeurIPS 2022, arXiv 2205.10536)."""

from __future__ import annotations

from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core import BaseLoss, ConfigError, InputError, LossOptions, Unreduced, examples
from losses_core.distributed import all_reduce_sum
from losses_core.kernels import definition
from losses_core.utils import checks
from losses_core.utils.weight_reduce import Group, Reduction
from losses_distill._inputs import check_class_dim, prepare_logits, refuse_weight


def _prepare(pred: Tensor, target: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    pred, target, options = prepare_logits(pred, target, options)
    return _positions(pred), _positions(target), options


def _positions(logits: Tensor) -> Tensor:
    """View (N,C,*S) as (N·S,C)."""
    return logits if logits.ndim == 2 else logits.movedim(1, -1).flatten(0, -2)


@definition(layout="whole", prepare=_prepare)
def dist_loss(
    pred: Tensor,
    target: Tensor,
    *,
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: float | Tensor = 1.0,
    eps: float = 1e-8,
    class_dim: int | None = None,
    group: Group | None = None,
) -> Tensor | Unreduced:
    """Compute the Pearson correlation of student and teacher probabilities along rows and columns: see `DISTLoss`.

    Args:
        pred: logits of the student, (N,C,*S) or the classes on ``class_dim``.
        target: logits of the teacher, of the shape of ``pred``.
        beta: weight of the rows.
        gamma: weight of the columns.
        temperature: τ > 0; a 0-d tensor gets a gradient.
        eps: rows and columns whose centered norm does not exceed it (1e-6 at least in float32) are excluded.
        class_dim: axis of the classes; None: axis 1 of 2-, 4- and 5-D logits.
        group: ranks whose rows make up the batch; None: this process alone.

    Returns:
        0-d; with ``group`` an Unreduced that is global already.
    """
    p, q = F.softmax(pred / temperature, 1), F.softmax(target / temperature, 1)
    (samples, classes), smallest = p.shape, smallest_norm(eps, p.dtype)
    rows, row_number = _decorrelation(_moments(p - p.mean(1, keepdim=True), q - q.mean(1, keepdim=True), 1), smallest)
    # the loss of all ranks is no sum of theirs, but follows from sums: of rows, then of columns about the common mean
    numbers = torch.stack([rows, row_number.to(p.dtype), torch.full_like(rows, samples)])
    sums = _all_ranks(torch.cat([p.sum(0), q.sum(0), numbers]), group)
    rows, row_number, number = sums[-3:].unbind()
    mean_p, mean_q = (sums[:-3] / number.clamp(min=1)).split(classes)
    moments = _all_ranks(_moments(p - mean_p, q - mean_q, 0), group)
    columns, column_number = _decorrelation(moments, smallest)
    value = beta * rows / row_number.clamp(min=1) + gamma * columns / column_number.clamp(min=1)
    value = value * (temperature * temperature)
    return value if group is None else Unreduced(value, already_global=True)


def smallest_norm(eps: float, dtype: torch.dtype) -> float:
    """The centered norm up to which a row or column of probabilities counts as constant."""
    return eps if dtype == torch.float64 else max(eps, 1e-6)


def _moments(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """Σa², Σb² and Σab along ``dim``, stacked."""
    return torch.stack([(a * a).sum(dim), (b * b).sum(dim), (a * b).sum(dim)])


def _decorrelation(moments: Tensor, smallest: float) -> tuple[Tensor, Tensor]:
    """Σ (1 - r) over the vectors that are not constant, and their number."""
    square_p, square_q, product = moments.unbind()
    constant = (square_p <= smallest**2) | (square_q <= smallest**2)  # NaN is neither, and shows
    norms = (torch.where(constant, 1, square_p) * torch.where(constant, 1, square_q)).sqrt()
    return torch.where(constant, 0, 1 - product / norms).sum(), (~constant).sum()


def _all_ranks(sums: Tensor, group: Group | None) -> Tensor:
    return sums if group is None else all_reduce_sum(sums, group.handle)


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
        temperature: τ > 0. Default: 1. May be given per call, also as a 0-d tensor, which gets a gradient.
        eps: a row or column whose centered norm does not exceed it, or 1e-6 in float32, is constant: it has no
            correlation, is excluded from the mean and gets no gradient. Default: 1e-8.
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
        this loss excludes a row instead. The paper trains with β = γ = 2, τ = 1 on ImageNet and τ = 4 on
        CIFAR-100.
    """

    coupled = "batch"
    function = dist_loss
    internal_options = ("group",)
    example = examples.CORRELATED
    reductions = ("mean", "sum")
    per_call = ("temperature",)

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

    def _arguments(self, pred: Any, target: Any, options: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
        return pred, target, {**options, "group": Group(self.process_group) if self._synchronises() else None}
