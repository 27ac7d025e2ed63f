"""Relational knowledge distillation (Park et al., CVPR 2019, arXiv 1904.05068)."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core import LossOptions, Unreduced
from losses_core.utils import checks, host
from losses_core.utils.autograd import Function
from losses_core.utils.precision import full_precision
from losses_core.utils.summed import Summed
from losses_distill._inputs import row_pair
from losses_distill._norm import unit
from losses_distill._pairwise import squared_distances
from losses_distill._relation import Batch, RelationLoss
from losses_distill.relation_loss._distances_host import summed_distances

_TRIPLES = 1 << 18
"""Triples in flight at once where no chunk size is given: a few MB, which a cache holds."""


@full_precision
def rkd_distance_loss(
    pred: Tensor, target: Tensor, *, eps: float = 1e-12, squared: bool = False, l2_normalize: bool = False
) -> Tensor:
    """Smooth-L1 between the scaled distances of each pair of samples, unreduced: see `RKDDistanceLoss`.

    Args:
        pred: embeddings of the student, (N,D) or (N,*).
        target: embeddings of the teacher, (N,E) or (N,*).
        eps: squared distances that do not exceed it count as 0.
        squared: squared distances.
        l2_normalize: scale embeddings to length 1 first.

    Returns:
        (N,N)
    """
    student, teacher = row_pair(pred, target)
    ours, theirs = (_scaled_distances(x, eps, squared, l2_normalize) for x in (student, teacher))
    return F.smooth_l1_loss(ours, theirs, reduction="none")


def _scaled_distances(x: Tensor, eps: float, squared: bool, l2_normalize: bool) -> Tensor:
    """Distances over the mean of those off the diagonal."""
    distances = squared_distances(unit(x) if l2_normalize else x, eps)
    n = x.shape[0]
    if not squared:
        zero = distances == 0
        distances = torch.where(zero, 0, torch.where(zero, 1, distances).sqrt())
    mean = distances.sum() / torch.sym_max(n * (n - 1), 1)
    return distances / torch.where(mean == 0, 1, mean)


@full_precision
def rkd_angle_loss(
    pred: Tensor,
    target: Tensor,
    *,
    eps: float = 1e-12,
    l2_normalize: bool = False,
    chunk_size: int | None = None,
) -> Tensor:
    """Smooth-L1 between the cosines of the angles at each sample, summed over pairs of others: see `RKDAngleLoss`.

    Args:
        pred: embeddings of the student, (N,D) or (N,*).
        target: embeddings of the teacher, (N,E) or (N,*).
        eps: squared distances that do not exceed it count as 0.
        l2_normalize: scale embeddings to length 1 first.
        chunk_size: samples whose N² angles are held at once.

    Returns:
        (N,): the sum over the N² pairs of each sample as the vertex.
    """
    return _angles(Batch(*row_pair(pred, target)), eps, l2_normalize, chunk_size)


def _angles(batch: Batch, eps: float, l2_normalize: bool, chunk_size: int | None) -> Tensor:
    student, teacher = (unit(x) if l2_normalize else x for x in batch[:2])
    ours, theirs = squared_distances(student, eps, wide=True), squared_distances(teacher, eps, wide=True)
    value: Tensor = _Angles.apply(ours, theirs, batch.own, chunk_size)
    return value


class _Side:
    """Squared distances of one network: of the vertices (n,N), and of all pairs (N,N)."""

    def __init__(self, far: Tensor, vertices: Tensor | None) -> None:
        self.near, self.far = far if vertices is None else far.index_select(0, vertices), far
        # 1/distance, 0 where the distance is
        self.inverse = torch.where(self.near == 0, torch.inf, self.near).rsqrt()

    def cosines(self, chunk: slice) -> Tensor:
        """(vertices, N, N): (d_ij² + d_jk² - d_ik²) / (2 d_ij d_jk) at the vertices j; 0 beside a distance of 0."""
        near, scale = self.near[chunk], self.inverse[chunk] * math.sqrt(0.5)
        product: Tensor = (near.unsqueeze(2) + near.unsqueeze(1) - self.far) * scale.unsqueeze(2) * scale.unsqueeze(1)
        return product


class _Angles(Function):
    """Keeps the matrices of squared distances; the cosines are computed anew, chunk by chunk."""

    @staticmethod
    def forward(far: Tensor, far_t: Tensor, vertices: Tensor | None, chunk_size: int | None) -> Tensor:
        ours, theirs = _Side(far, vertices), _Side(far_t, vertices)
        sums = [far.new_zeros(0)]
        for chunk in _chunks(ours.near, chunk_size):
            gap = ours.cosines(chunk) - theirs.cosines(chunk)
            slope = gap.clamp(-1, 1)
            sums.append((slope * (gap - 0.5 * slope)).sum((1, 2)))
        return torch.cat(sums)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *matrices, ctx.chunk_size = inputs
        ctx.save_for_backward(*matrices)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        far, far_t, vertices = ctx.saved_tensors
        ours, theirs = _Side(far, vertices), _Side(far_t, vertices)
        grad_near, grad_far = [far[:0]], torch.zeros_like(far)
        for chunk in _chunks(ours.near, ctx.chunk_size):
            cosines, inverse = ours.cosines(chunk), ours.inverse[chunk]
            slope = (cosines - theirs.cosines(chunk)).clamp(-1, 1) * grad[chunk].reshape(-1, 1, 1)
            along = (slope * cosines).sum(2) * inverse * inverse
            slope = slope * inverse.unsqueeze(2) * inverse.unsqueeze(1)
            # each pair (i,k) comes twice, so the derivatives of its two sides are one row sum
            grad_near.append(slope.sum(2) - along)
            grad_far = grad_far - 0.5 * slope.sum(0)
        near = torch.cat(grad_near)
        return grad_far + near if vertices is None else grad_far.index_add(0, vertices, near), None, None, None


def _chunks(near: Tensor, size: int | None) -> list[slice]:
    if torch.compiler.is_compiling():
        # the compiler fuses the sums and holds no N³; a loop would be compiled anew for each batch size
        return [slice(None)]
    number, others = near.shape
    size = size or max(1, _TRIPLES // max(others * others, 1))
    return [slice(start, start + size) for start in range(0, number, size)]


class RKDDistanceLoss(RelationLoss):
    r"""Distances between the samples of a batch, in units of their mean, as the teacher sees them.

    .. math::
        l_{ij} = \operatorname{smooth-L1}\!\left( \frac{\lVert s_i - s_j \rVert}{\mu_s},
            \frac{\lVert t_i - t_j \rVert}{\mu_t} \right), \qquad
        \mu = \operatorname{mean}_{i \ne j} \lVert x_i - x_j \rVert

    Use when: embeddings are distilled (metric learning, retrieval) whose dimensions may differ: the relations between
    samples are passed on, not the vectors.

    Args:
        eps: squared distances that do not exceed it, or rounding, are 0 and have no gradient. Default: 1e-12.
        squared: squared distances. Default: False.
        l2_normalize: scale each embedding to length 1 first. Default: False.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: embeddings of the student, (N,D); more dims are flattened from axis 1.
        - target: embeddings of the teacher, (N,E).

    Returns:
        0-d for ``mean`` (over N², the zeros of the diagonal included) and ``sum``; (N,N) for ``none``.

    Raises:
        InputError: batches that differ; a sample weight, as samples are compared with each other.
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
        taken off before the matrix product: without it, as in the well-known code, distances of features with an offset
        are wrong by hundreds of per cent. The mean distance includes duplicates, as in the paper; the authors' code
        leaves zeros out. One sample costs 0.
    """

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

    def _forward(self, pred: Tensor, target: Tensor) -> Tensor | Summed:
        batch = self._batch(*row_pair(pred, target))
        student, teacher = (unit(x) if self.l2_normalize else x for x in batch[:2])
        distances = partial(rkd_distance_loss, eps=self.eps, squared=self.squared)
        number = student.shape[0]
        if batch.own is None and number and host.on_host(student, teacher):
            summed = partial(summed_distances, student, teacher, distances, self.eps, self.squared)
            return Summed(student, partial(distances, student, teacher), summed, number * number)
        return batch.part(distances(student, teacher))


class RKDAngleLoss(RelationLoss):
    r"""Angles that the samples of a batch form with each other, as the teacher sees them.

    .. math::
        l_j = \sum_{i,k} \operatorname{smooth-L1}\big( \cos\angle s_i s_j s_k,\, \cos\angle t_i t_j t_k \big), \qquad
        \cos\angle x_i x_j x_k = \frac{(x_i - x_j) \cdot (x_k - x_j)}{\lVert x_i - x_j \rVert\,\lVert x_k - x_j \rVert}

    A pair of equal samples has no direction: its cosines are 0, with gradient 0.

    Use when: as `RKDDistanceLoss`, of which it is the stronger companion; the angles are free of scale.

    Args:
        eps: squared distances that do not exceed it, or rounding, are 0. Default: 1e-12.
        l2_normalize: scale each embedding to length 1 first. Default: False.
        chunk_size: samples whose N² angles are held in memory at once. Default: None, as many as a cache holds. Has no
            meaning under ``torch.compile``, which holds no N³ anyway.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: embeddings of the student, (N,D); more dims are flattened from axis 1.
        - target: embeddings of the teacher, (N,E).

    Returns:
        0-d for ``mean`` (Σ l / N³) and ``sum``; for ``none`` (N,), the sum over the N² pairs at each sample.

    Raises:
        InputError: batches that differ; a sample weight, as samples are compared with each other.
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
        in chunks: the well-known code keeps N²·D numbers, 320 times the embeddings at N = 128. Its gradients reach 1e9
        where two samples are equal; here they stay small. One sample costs 0.
    """

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

    def _forward(self, pred: Tensor, target: Tensor) -> Unreduced:
        batch = self._batch(*row_pair(pred, target))
        value = _angles(batch, self.eps, self.l2_normalize, self.chunk_size)
        # each element stands for N² pairs
        return Unreduced(value, torch.full_like(value, batch.student.shape[0] ** 2, requires_grad=False))
