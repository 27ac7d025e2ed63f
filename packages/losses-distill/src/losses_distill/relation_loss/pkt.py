"""Probabilistic knowledge transfer (Passalis and Tefas, ECCV 2018, arXiv 1803.10837)."""

from __future__ import annotations

from functools import partial
from typing import Any, Unpack

import torch
from torch import Tensor

from losses_core import CommonOptions
from losses_core.utils import checks, host
from losses_core.utils.autograd import Function
from losses_core.utils.precision import full_precision
from losses_core.utils.summed import Summed
from losses_distill._inputs import row_pair
from losses_distill._norm import unit
from losses_distill._relation import RelationLoss
from losses_distill.relation_loss._transfer_host import summed_transfer


@full_precision
def pkt_loss(pred: Tensor, target: Tensor, *, eps: float = 1e-7) -> Tensor:
    """Divergence between the conditional similarities of the samples, pair by pair, unreduced: see `PKTLoss`.

    Args:
        pred: embeddings of the student, (N,D) or (N,*).
        target: embeddings of the teacher, (N,E) or (N,*).
        eps: added inside the logarithm, as published.

    Returns:
        (N,N)
    """
    student, teacher = row_pair(pred, target)
    q, _ = _conditional(unit(teacher))
    return _Transfer.apply(unit(student), q, eps)[0]  # type: ignore[no-any-return]


def _conditional(x: Tensor) -> tuple[Tensor, Tensor]:
    """p_ij = K_ij / Σ_k K_ik of rows of length 1 (or 0), and the sums."""
    # (cos+1)/2; a cosine of -1 may round to less
    kernel = ((x @ x.T + 1) / 2).clamp(min=0)
    total = kernel.sum(1, keepdim=True)
    return kernel / total, total


class _Transfer(Function):
    """q log((q+ε)/(p+ε)) with p from the rows x. Keeps x and the two (N,N) probabilities."""

    @staticmethod
    def forward(x: Tensor, q: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        p, total = _conditional(x)
        return q * ((q + eps) / (p + eps)).log(), p, total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: tuple[Tensor, ...]) -> None:
        x, q, ctx.eps = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(x, q, *output[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, None, None]:
        x, q, p, total = ctx.saved_tensors
        if torch.is_grad_enabled():  # what was kept is not recorded
            p, total = _conditional(x)
        slope = grad * q / (p + ctx.eps)  # -dl/dp
        slope = ((slope * p).sum(1, keepdim=True) - slope) / (2 * total)
        return (slope + slope.T) @ x, None, None


class PKTLoss(RelationLoss):
    r"""Conditional probabilities that the samples of a batch are neighbours, matched between student and teacher.

    .. math::
        K_{ij} = \frac{\cos(x_i, x_j) + 1}{2}, \qquad p_{ij} = \frac{K_{ij}}{\sum_k K_{ik}}, \qquad
        l_{ij} = q_{ij} \log \frac{q_{ij} + \epsilon}{p_{ij} + \epsilon}

    with :math:`p` of the student and :math:`q` of the teacher.

    Use when: embeddings are distilled whose dimensions differ, and neighbourhoods matter more than distances:
    retrieval, compact descriptors.

    Args:
        eps: ε > 0, added inside the logarithm, as published. Default: 1e-7.
        reduction: ``'none'``, ``'mean'``, ``'sum'`` or ``'batchmean'``. Default: ``'mean'``.
        **options: ``loss_weight``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: embeddings of the student, (N,D); more dims are flattened from axis 1.
        - target: embeddings of the teacher, (N,E).

    Returns:
        0-d for ``mean`` (over N², as published), ``batchmean`` (Σ l / N) and ``sum``; (N,N) for ``none``.

    Raises:
        InputError: batches that differ; a sample weight, as samples are compared with each other.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = PKTLoss(reduction="sum")
        >>> student = torch.tensor([[1.0, 0.0], [0.0, 1.0]], requires_grad=True)
        >>> loss(student, torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]))
        tensor(0.8109, grad_fn=<...>)

    References:
        Passalis, Tefas, Learning Deep Representations with Probabilistic Knowledge Transfer, ECCV 2018, arXiv
        1803.10837.

    Notes:
        The kernel includes the diagonal, as in the authors' code. A row of zeros has cosine 0 with every other and gets
        no gradient. One sample costs 0.
    """

    reductions = ("none", "mean", "sum", "batchmean")

    def __init__(self, eps: float = 1e-7, reduction: str = "mean", **options: Unpack[CommonOptions]) -> None:
        super().__init__(reduction=reduction, **options)
        self.eps = checks.number(self, "eps", eps, above=0)

    def _forward(self, pred: Tensor, target: Tensor) -> Tensor | Summed:
        batch = self._batch(*row_pair(pred, target))
        student, teacher = batch[:2]
        transfer = partial(pkt_loss, eps=self.eps)
        if batch.own is None and host.on_host(student, teacher):
            summed = partial(summed_transfer, student, teacher, transfer, self.eps)
            return Summed(student, partial(transfer, student, teacher), summed, student.shape[0] ** 2)
        return batch.part(transfer(student, teacher))
