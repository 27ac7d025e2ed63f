"""Probabilistic knowledge transfer (Passalis and Tefas, ECCV 2018, arXiv 1803.10837)."""

from __future__ import annotations

from typing import Any, Unpack

from torch import Tensor

from losses_core import CommonOptions
from losses_core.kernels import definition
from losses_core.utils import checks
from losses_distill._inputs import prepare_rows
from losses_distill._pairwise import unit
from losses_distill._relation import RelationLoss, anchor_number, select


def _prepare(pred: Tensor, target: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    return *prepare_rows(pred, target), options


def _pairs(pred: Tensor, target: Tensor, *, anchors: Tensor | None, **_: Any) -> int:
    return anchor_number(pred, anchors) * pred.shape[0]


@definition(layout="whole", prepare=_prepare, denominator=_pairs)
def pkt_loss(pred: Tensor, target: Tensor, *, eps: float = 1e-7, anchors: Tensor | None = None) -> Tensor:
    """Compute the divergence between the conditional similarities of samples, pair by pair: see `PKTLoss`.

    Args:
        pred: embeddings of the student, (N,D) or (N,*).
        target: embeddings of the teacher, (N,E) or (N,*).
        eps: added inside the logarithm, as published.
        anchors: (n,) indices of the samples whose rows are returned; None: all.

    Returns:
        (n,N)
    """
    p, q = (_conditional_probabilities(unit(x), anchors) for x in (pred, target))
    return q * ((q + eps) / (p + eps)).log()


def _conditional_probabilities(x: Tensor, anchors: Tensor | None) -> Tensor:
    """p_ij = K_ij / Σ_k K_ik with K = (cos + 1)/2, of rows of length 1 (or 0)."""
    # a cosine of -1 may round to less
    kernel = ((select(x, anchors) @ x.T + 1) / 2).clamp(min=0)
    return kernel / kernel.sum(1, keepdim=True)


class PKTLoss(RelationLoss):
    r"""Conditional probabilities that the samples of a batch are neighbors, matched between student and teacher.

    .. math::
        K_{ij} = \frac{\cos(x_i, x_j) + 1}{2}, \qquad p_{ij} = \frac{K_{ij}}{\sum_k K_{ik}}, \qquad
        l_{ij} = q_{ij} \log \frac{q_{ij} + \epsilon}{p_{ij} + \epsilon}

    with :math:`p` of the student and :math:`q` of the teacher.

    Use when: embeddings are distilled whose dimensions differ, and neighborhoods matter more than distances:
    retrieval, compact descriptors.

    Args:
        eps: ε > 0, added inside the logarithm, as published. Default: 1e-7.
        reduction: ``'none'``, ``'mean'``, ``'sum'`` or ``'batchmean'``. Default: ``'mean'``.
        **options: ``loss_weight``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: embeddings of the student, (N,D); more dims are flattened from axis 1.
        - target: embeddings of the teacher, (N,E).
        - weight: (N,), of the rows of the anchors i, or (N,N), of the pairs. The denominator is unchanged. A sample of
          weight 0 is no anchor but still a neighbor of the others; to exclude it, leave it out of the batch.

    Returns:
        0-d for ``mean`` (over N², as published), ``batchmean`` (Σ l / N) and ``sum``; (N,N) for ``none``.

    Raises:
        InputError: batches that differ; a weight of another shape.
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
        no gradient. The loss of one sample is 0.
    """

    function = pkt_loss
    reductions = ("none", "mean", "sum", "batchmean")

    def __init__(self, eps: float = 1e-7, reduction: str = "mean", **options: Unpack[CommonOptions]) -> None:
        super().__init__(reduction=reduction, **options)
        self.eps = checks.number(self, "eps", eps, above=0)
