"""Relational knowledge distillation (Park et al., CVPR 2019, arXiv 1904.05068)."""

from __future__ import annotations

import math
from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core import LossOptions
from losses_core.kernels import definition
from losses_core.utils import checks
from losses_core.utils.torch_compat import sym_max
from losses_distill._inputs import prepare_rows
from losses_distill._pairwise import squared_distances, unit
from losses_distill._relation import RelationLoss, anchor_number, select


def _prepare(pred: Tensor, target: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    return *prepare_rows(pred, target), options


def _pairs(pred: Tensor, target: Tensor, *, anchors: Tensor | None, **_: Any) -> int:
    return anchor_number(pred, anchors) * pred.shape[0]


@definition(layout="whole", prepare=_prepare, denominator=_pairs)
def rkd_distance_loss(
    pred: Tensor,
    target: Tensor,
    *,
    eps: float = 1e-12,
    squared: bool = False,
    l2_normalize: bool = False,
    anchors: Tensor | None = None,
) -> Tensor:
    """Compute the smooth-L1 loss between the scaled distances of each pair of samples: see `RKDDistanceLoss`.

    Args:
        pred: embeddings of the student, (N,D) or (N,*).
        target: embeddings of the teacher, (N,E) or (N,*).
        eps: squared distances that do not exceed it count as 0.
        squared: squared distances.
        l2_normalize: scale embeddings to length 1 first.
        anchors: (n,) indices of the samples whose rows are returned; None: all.

    Returns:
        (n,N)
    """
    student, teacher = (_scaled_distances(x, eps, squared, l2_normalize) for x in (pred, target))
    return F.smooth_l1_loss(select(student, anchors), select(teacher, anchors), reduction="none")


def _scaled_distances(x: Tensor, eps: float, squared: bool, l2_normalize: bool) -> Tensor:
    """Distances over the mean of those off the diagonal."""
    distances = squared_distances(unit(x) if l2_normalize else x, eps)
    n = x.shape[0]
    if not squared:
        zero = distances == 0
        distances = distances.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)
    mean = distances.sum() / sym_max(n * (n - 1), 1)
    scaled: Tensor = distances / mean.masked_fill(mean == 0, 1)
    return scaled


def _normalizer(pred: Tensor, target: Tensor, **_: Any) -> Tensor:
    """Each element is a sum over N² pairs."""
    return torch.full((), pred.shape[0] ** 2, dtype=torch.float32, device=pred.device)


def _triples(pred: Tensor, target: Tensor, *, anchors: Tensor | None, **_: Any) -> int:
    return anchor_number(pred, anchors) * pred.shape[0] ** 2


@definition(layout="whole", prepare=_prepare, normalizer=_normalizer, denominator=_triples)
def rkd_angle_loss(
    pred: Tensor,
    target: Tensor,
    *,
    eps: float = 1e-12,
    l2_normalize: bool = False,
    chunk_size: int | None = None,
    anchors: Tensor | None = None,
) -> Tensor:
    """Compute the smooth-L1 loss between the cosines of the angles at each sample: see `RKDAngleLoss`.

    Args:
        pred: embeddings of the student, (N,D) or (N,*).
        target: embeddings of the teacher, (N,E) or (N,*).
        eps: squared distances that do not exceed it count as 0.
        l2_normalize: scale embeddings to length 1 first.
        chunk_size: vertices whose N² angles are held in memory at once, where a kernel runs.
        anchors: (n,) indices of the samples that are vertices; None: all.

    Returns:
        Unreduced: value (n,), the sum over the N² pairs of each vertex, and normalizer N².
    """
    student, teacher = (_cosines(unit(x) if l2_normalize else x, eps, anchors) for x in (pred, target))
    return F.smooth_l1_loss(student, teacher, reduction="none").sum((1, 2))


def _cosines(x: Tensor, eps: float, anchors: Tensor | None) -> Tensor:
    """(n,N,N): (d_ij² + d_jk² - d_ik²) / (2 d_ij d_jk) at the vertices j; 0 beside a distance of 0."""
    far = squared_distances(x, eps, wide=True)
    near = select(far, anchors)
    scale = near.masked_fill(near == 0, torch.inf).rsqrt() * math.sqrt(0.5)
    return (near.unsqueeze(2) + near.unsqueeze(1) - far) * scale.unsqueeze(2) * scale.unsqueeze(1)


class RKDDistanceLoss(RelationLoss):
    r"""Distances between the samples of a batch, in units of their mean, compared with the teacher's.

    .. math::
        l_{ij} = \operatorname{smooth-L1}\!\left( \frac{\lVert s_i - s_j \rVert}{\mu_s},
            \frac{\lVert t_i - t_j \rVert}{\mu_t} \right), \qquad
        \mu = \operatorname{mean}_{i \ne j} \lVert x_i - x_j \rVert

    Use when: embeddings are distilled (metric learning, retrieval), also of different dimensions: relations between
    samples are compared, not vectors.

    Args:
        eps: squared distances that do not exceed it, or rounding, are 0 and have no gradient. Default: 1e-12.
        squared: squared distances. Default: False.
        l2_normalize: scale each embedding to length 1 first. Default: False.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: embeddings of the student, (N,D); more dims are flattened from axis 1.
        - target: embeddings of the teacher, (N,E).
        - weight: (N,), of the rows of the anchors i, or (N,N), of the pairs. The denominator stays N². A sample of
          weight 0 is no anchor but still a partner of the others; to exclude it, leave it out of the batch.

    Returns:
        0-d for ``mean`` (over N², the zeros of the diagonal included) and ``sum``; (N,N) for ``none``.

    Raises:
        InputError: batches that differ; a weight of another shape.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = RKDDistanceLoss()
        >>> student = torch.tensor([[0.0], [1.0], [2.0]], requires_grad=True)
        >>> loss(student, torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]]))
        tensor(0.0556, grad_fn=<...>)

    References:
        Park et al., Relational Knowledge Distillation, CVPR 2019, arXiv 1904.05068, eq. 4-6.

    Notes:
        The published weights are 25 for the distances beside 50 for the angles (`RKDAngleLoss`). The batch mean is
        subtracted before the matrix product: without that, as in the well-known code, distances of features with an
        offset are wrong by hundreds of per cent. The mean distance includes duplicates, as in the paper; the authors'
        code excludes zeros. The loss of one sample is 0.
    """

    function = rkd_distance_loss

    def __init__(
        self,
        eps: float = 1e-12,
        squared: bool = False,
        l2_normalize: bool = False,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.eps = checks.number(self, "eps", eps, low=0)
        self.squared = checks.flag(self, "squared", squared)
        self.l2_normalize = checks.flag(self, "l2_normalize", l2_normalize)


class RKDAngleLoss(RelationLoss):
    r"""Angles that the samples of a batch form with each other, compared with the teacher's.

    .. math::
        l_j = \sum_{i,k} \operatorname{smooth-L1}\big( \cos\angle s_i s_j s_k,\, \cos\angle t_i t_j t_k \big), \qquad
        \cos\angle x_i x_j x_k = \frac{(x_i - x_j) \cdot (x_k - x_j)}{\lVert x_i - x_j \rVert\,\lVert x_k - x_j \rVert}

    A pair of equal samples has no direction: its cosines are 0, with gradient 0.

    Use when: as `RKDDistanceLoss`, which it complements; angles do not depend on the scale of embeddings.

    Args:
        eps: squared distances that do not exceed it, or rounding, are 0. Default: 1e-12.
        l2_normalize: scale each embedding to length 1 first. Default: False.
        chunk_size: vertices whose N² angles are held in memory at once. Default: None, as many as fit into a cache. It
            has no effect under ``torch.compile``, whose fused loops hold none, nor where the definition runs
            (``reduction='none'``, a weight, ``sync_dist``).
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: embeddings of the student, (N,D); more dims are flattened from axis 1.
        - target: embeddings of the teacher, (N,E).
        - weight: (N,), of the vertices j. The denominator stays N³. A sample of weight 0 is no vertex but still a
          partner of the others; to exclude it, leave it out of the batch.

    Returns:
        0-d for ``mean`` (Σ l / N³) and ``sum``; for ``none`` (N,), the sum over the N² pairs at each sample.

    Raises:
        InputError: batches that differ; a weight of another shape.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = RKDAngleLoss()
        >>> student = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], requires_grad=True)
        >>> loss(student, torch.tensor([[0.0], [1.0], [2.0]]))
        tensor(0.1296, grad_fn=<...>)

    References:
        Park et al., Relational Knowledge Distillation, CVPR 2019, arXiv 1904.05068, eq. 7-9.

    Notes:
        The published weight is 50, beside 25 for the distances. Computed from squared distances by the law of cosines,
        in chunks: the well-known code saves N²·D numbers, 320 times the embeddings at N = 128. Its gradients reach 1e9
        where two samples are equal; those of this loss stay small. The loss of one sample is 0.
    """

    function = rkd_angle_loss

    def __init__(
        self,
        eps: float = 1e-12,
        l2_normalize: bool = False,
        chunk_size: int | None = None,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.eps = checks.number(self, "eps", eps, low=0)
        self.l2_normalize = checks.flag(self, "l2_normalize", l2_normalize)
        self.chunk_size = (
            None if chunk_size is None else checks.number(self, "chunk_size", chunk_size, low=1, integer=True)
        )
