"""Similarity-preserving distillation (Tung and Mori, ICCV 2019, arXiv 1907.09682)."""

from __future__ import annotations

from typing import Any, Unpack

import torch.nn.functional as F
from torch import Tensor

from losses_core import LossOptions
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
def sp_loss(pred: Tensor, target: Tensor, *, eps: float = 1e-12, anchors: Tensor | None = None) -> Tensor:
    """Compute the squared difference of the similarities of each pair of samples: see `SPLoss`.

    Args:
        pred: features of the student, (N,D) or (N,*).
        target: features of the teacher, (N,E) or (N,*).
        eps: a row of similarities no longer than this becomes 0, with gradient 0.
        anchors: (n,) indices of the samples whose rows are returned; None: all.

    Returns:
        (n,N)
    """
    student, teacher = (unit(select(x, anchors) @ x.T, eps) for x in (pred, target))
    return F.mse_loss(student, teacher, reduction="none")


class SPLoss(RelationLoss):
    r"""Similarities between the samples of a batch, compared with the teacher's.

    With :math:`F` the features, flattened to (N,D), and rows of similarities scaled to length 1,

    .. math::
        G = F F^\top, \qquad \hat G_{i} = \frac{G_{i}}{\lVert G_{i} \rVert_2}, \qquad
        l_{ij} = \big( \hat G^s_{ij} - \hat G^t_{ij} \big)^2

    Use when: samples that are similar for the teacher should be similar for the student. Features may have any width or
    size; only the batch must be the same.

    Args:
        eps: a row of similarities whose length is no more than this becomes 0, with gradient 0. Default: 1e-12.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: features of the student, (N,D); more dims are flattened from axis 1.
        - target: features of the teacher, (N,E).
        - weight: (N,), of the rows of the anchors i, or (N,N), of the pairs. The denominator stays N². A sample of
          weight 0 is no anchor but still a partner of the others; to exclude it, leave it out of the batch.

    Returns:
        0-d for ``mean`` (over N², as published) and ``sum``; (N,N) for ``none``.

    Raises:
        InputError: batches that differ; a weight of another shape.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = SPLoss()
        >>> student = torch.tensor([[1.0, 0.0], [0.0, 1.0]], requires_grad=True)
        >>> loss(student, torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
        tensor(0.2929, grad_fn=<...>)

    References:
        Tung, Mori, Similarity-Preserving Knowledge Distillation, ICCV 2019, arXiv 1907.09682.

    Notes:
        torchdistill's ``SPKDLoss`` divides the rows by their L1 norm (the second argument of its ``normalize`` is p),
        so that its value is another one. A row of zeros stays 0. The loss of one sample is 0.
    """

    function = sp_loss

    def __init__(self, eps: float = 1e-12, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.eps = checks.number(self, "eps", eps, low=0)
