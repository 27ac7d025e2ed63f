"""Contrastive representation distillation (Tian et al., ICLR 2020, arXiv 1910.10699)."""

from __future__ import annotations

from typing import Any, Unpack, cast

import torch
from torch import Tensor

from losses_core import ConfigError, InputError, LossOptions
from losses_core.distributed import gather_cat
from losses_core.kernels import definition
from losses_core.utils import checks
from losses_core.utils.weight_reduce import Group
from losses_distill._adapter import ChannelAdapter, check_channels
from losses_distill._contrast import contrast_pairs
from losses_distill._inputs import prepare_rows
from losses_distill._memory import (
    LazyMemoryBank,
    LazyNegativeQueue,
    MemoryBank,
    NegativeQueue,
    lazily,
    same_image,
)
from losses_distill._pairwise import unit
from losses_distill._relation import RelationLoss

MODES = ("auto", "queue", "memory", "batch")


def _prepare(pred: Tensor, target: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    student, teacher = prepare_rows(pred, target)
    _check_widths(student, teacher)
    options["sample_idx"] = _check_index(options["sample_idx"], student)
    return student, teacher, options


@definition(layout="whole", prepare=_prepare)
def crd_loss(
    pred: Tensor,
    target: Tensor,
    *,
    temperature: float = 0.07,
    sample_idx: Tensor | None = None,
    anchors: Tensor | None = None,
) -> Tensor:
    """Compute InfoNCE between student and teacher within the batch, both directions summed.

    `CRDLoss` with ``mode='batch'``.

    Args:
        pred: embeddings of the student, (N,D) or (N,*).
        target: embeddings of the teacher, (N,D) or (N,*).
        temperature: τ > 0.
        sample_idx: (N,) integer: samples of one index are no negatives of each other.
        anchors: (n,) indices of the samples whose loss is returned; None: all.

    Returns:
        (n,)
    """
    return contrast_pairs(unit(pred), unit(target), same_image(sample_idx), temperature, anchors=anchors)


def _check_widths(student: Tensor, teacher: Tensor) -> None:
    if student.shape[1] != teacher.shape[1]:
        raise InputError(
            f"expected target of the width of pred {tuple(student.shape)}; got {tuple(teacher.shape)}. "
            f"student_channels={student.shape[1]}, teacher_channels={teacher.shape[1]} adds a learnable head to each."
        )


def _check_index(sample_idx: Any, student: Tensor) -> Tensor | None:
    if sample_idx is None:
        return None
    index: Tensor = checks.index("sample_idx", sample_idx)
    checks.shape("sample_idx", index, student.shape[:1], reference=f"pred {tuple(student.shape)}")
    return index


class CRDLoss(RelationLoss):
    r"""Contrastive distillation: the teacher's embedding of the same image against those of others, and the reverse.

    With :math:`s, t` of length 1, :math:`\tau` the temperature, and :math:`T_i, S_i` the embeddings of other images:
    those in the batch and, for ``queue``, the last ``neg_num`` ones,

    .. math::
        l_i = -\log \frac{e^{s_i \cdot t_i/\tau}}{e^{s_i \cdot t_i/\tau} + \sum_{t' \in T_i} e^{s_i \cdot t'/\tau}}
              -\log \frac{e^{s_i \cdot t_i/\tau}}{e^{s_i \cdot t_i/\tau} + \sum_{s' \in S_i} e^{s' \cdot t_i/\tau}}

    ``memory`` is the published form: a bank :math:`m` of all :math:`M` images and, with :math:`K` negatives,

    .. math::
        l_i = \sum_{\text{sides}} \left[ -\log \frac{P_0}{P_0 + K/M + \epsilon}
              - \sum_{k=1}^{K} \log \frac{K/M}{P_k + K/M + \epsilon} \right], \qquad
        P_k = \frac{e^{v_i \cdot m_k/\tau}}{Z}

    the student against the teacher's bank and the teacher against the student's; :math:`Z` is M times the mean of the
    first batch's exponentials, and then kept.

    Use when: representations are distilled for a classifier or for retrieval, and matching the vectors one by one is
    not enough.

    Args:
        temperature: τ > 0. Default: 0.07.
        neg_num: length of the queue, or number K of negatives drawn from the bank. Default: 16384.
        mode: ``'queue'``, ``'memory'``, ``'batch'`` (nothing stored), or ``'auto'``: memory where ``num_samples`` is
            given, else queue. Default: ``'auto'``.
        student_channels: width of pred; given together with ``teacher_channels``, each side gets a learnable linear
            layer to ``feat_dim``. Default: None, the embeddings as they are.
        teacher_channels: width of target. Default: None.
        feat_dim: width after those layers. Default: 128.
        num_samples: M, images in the data set; for ``memory``. Default: None.
        momentum: of the bank's rows, in [0, 1]. Default: 0.5.
        eps: ε > 0 of ``memory``. Default: 1e-7.
        share_negatives: one set of negatives per batch, and so a matrix product; False draws for each sample. Default:
            True.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: embeddings of the student, (N,D); more dims are flattened from axis 1.
        - target: embeddings of the teacher, (N,D), or of another width with the channels given.
        - sample_idx: at the call, (N,) integer: which image each sample is. Required for ``memory``; else entries of
          the same image are excluded from the negatives.
        - weight: (N,), of the anchors, for both directions. The denominator stays N. A sample of weight 0 is no anchor
          but still a negative of the others, and is stored; to exclude it, leave it out of the batch.
        - contrast_idx: at the call, for ``memory``: (N,1+K) integer, the positive first; None draws the negatives.

    Returns:
        0-d for ``mean`` (over N) and ``sum``; (N,) for ``none``.

    Raises:
        InputError: shapes that do not fit; a second derivative in training mode, except for ``batch``.
        ConfigError: an option outside its range; one of the channels without the other; ``memory`` without
            ``num_samples``.
        TypeError: a call in ``memory`` mode without ``sample_idx=``.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> loss = CRDLoss(neg_num=8, student_channels=4, teacher_channels=6, feat_dim=3)
        >>> value = loss(torch.randn(2, 4), torch.randn(2, 6))
        >>> int(loss.memory.fill), value.shape
        (2, torch.Size([]))

    References:
        Tian et al., Contrastive Representation Distillation, ICLR 2020, arXiv 1910.10699.
        van den Oord et al., Representation Learning with Contrastive Predictive Coding, 2018, arXiv 1807.03748
        (InfoNCE). He et al., Momentum Contrast for Unsupervised Visual Representation Learning, CVPR 2020, arXiv
        1911.05722 (queue).

    Notes:
        Queue or bank are updated in training mode only, after the loss was computed, and are part of the state_dict,
        with pointer, fill and log Z; rows that are not finite are never stored. The queue starts empty. A negative
        drawn for the batch that is a sample's own image is excluded for that sample. Of the (N,K) scores nothing is
        saved for backward, where the well-known code gathers half a gigabyte of rows; its random numbers differ, so
        to reproduce it give ``contrast_idx``.

        Call the loss outside of ``torch.utils.checkpoint``, from its first use on: there it is computed again in the
        backward, against a queue or bank that holds this batch already, so that the gradient is not that of the value.

        The heads are trained only if the optimizer has their parameters: build it from
        ``losses_core.trainable_parameters(model, loss)`` and let ``losses_core.check_optimizer(optimizer, loss)``
        confirm it.
    """

    def __init__(
        self,
        temperature: float = 0.07,
        neg_num: int = 16384,
        *,
        mode: str = "auto",
        student_channels: int | None = None,
        teacher_channels: int | None = None,
        feat_dim: int = 128,
        num_samples: int | None = None,
        momentum: float = 0.5,
        eps: float = 1e-7,
        share_negatives: bool = True,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.temperature = checks.number(self, "temperature", temperature, above=0)
        self.neg_num = checks.number(self, "neg_num", neg_num, low=1, integer=True)
        self.mode = checks.choice(self, "mode", mode, MODES)
        check_channels(self, student_channels, teacher_channels)
        self.student_channels = student_channels
        self.teacher_channels = teacher_channels
        self.feat_dim = checks.number(self, "feat_dim", feat_dim, low=1, integer=True)
        if num_samples is not None:
            checks.number(self, "num_samples", num_samples, low=2, integer=True)
        self.num_samples = num_samples
        self.momentum = checks.number(self, "momentum", momentum, low=0, high=1)
        self.eps = checks.number(self, "eps", eps, above=0)
        self.share_negatives = checks.flag(self, "share_negatives", share_negatives)
        if mode == "memory" and num_samples is None:
            raise ConfigError("CRDLoss: mode='memory' needs num_samples, the number of images in the data set.")

        self.student_head: ChannelAdapter | None = None
        self.teacher_head: ChannelAdapter | None = None
        if student_channels is not None and teacher_channels is not None:
            self.student_head = ChannelAdapter(student_channels, feat_dim)
            self.teacher_head = ChannelAdapter(teacher_channels, feat_dim)
        self.memory = self._new_memory()

    def _new_memory(self) -> NegativeQueue | MemoryBank | None:
        width = None if self.student_head is None else self.feat_dim
        if self.mode == "batch":
            return None
        if self.num_samples is None or self.mode == "queue":
            queue = lazily(LazyNegativeQueue, self.neg_num) if width is None else NegativeQueue(self.neg_num, width)
            return queue
        bank = lazily(LazyMemoryBank, self.num_samples) if width is None else MemoryBank(self.num_samples, width)
        return bank

    def _forward(
        self, pred: Tensor, target: Tensor, *, sample_idx: Tensor | None = None, contrast_idx: Tensor | None = None
    ) -> Tensor:
        student, teacher = self._embeddings(pred, target)
        sample_idx = _check_index(sample_idx, student)
        if contrast_idx is not None and not isinstance(self.memory, MemoryBank):
            raise InputError("contrast_idx: has a meaning with mode='memory' only; drop it, or give num_samples.")
        if isinstance(self.memory, MemoryBank):
            if sample_idx is None:
                raise TypeError("CRDLoss: the call needs sample_idx= with a memory bank: which image each sample is.")
            positive, negative = self._contrast(sample_idx, contrast_idx)
        if self.memory is not None:  # before the rows of all ranks are gathered: a compiler does not know their number
            self.memory(student, teacher)
        batch = self._gather(student, teacher)
        if sample_idx is not None and batch.anchors is not None:
            sample_idx = gather_cat(sample_idx, self.process_group)
        if self.memory is None:
            return contrast_pairs(
                batch.student, batch.teacher, same_image(sample_idx), self.temperature, anchors=batch.anchors
            )
        if isinstance(self.memory, MemoryBank):
            group = None if batch.anchors is None else Group(self.process_group)
            settings = self.temperature, self.momentum, self.eps, group
            return self.memory.loss(batch, cast("Tensor", sample_idx), positive, negative, *settings)
        return self.memory.loss(batch, sample_idx, self.temperature)

    def _embeddings(self, pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The rows of student and teacher, through the heads where there are any, scaled to length 1."""
        student, teacher = prepare_rows(pred, target)
        if self.student_head is not None and self.teacher_head is not None:
            for name, x, head in (("pred", student, self.student_head), ("target", teacher, self.teacher_head)):
                if x.shape[1] != head.in_features:
                    which = "student_channels" if name == "pred" else "teacher_channels"
                    raise InputError(
                        f"expected {name} of width {head.in_features}, by {which}={head.in_features}; "
                        f"got {tuple(x.shape)}."
                    )
            student, teacher = self.student_head(student), self.teacher_head(teacher)
        _check_widths(student, teacher)
        return unit(student), unit(teacher)

    def _contrast(self, sample_idx: Tensor, contrast_idx: Tensor | None) -> tuple[Tensor, Tensor]:
        """Indices of the positives (N,), and of the negatives, (K,) or (N,K), given or drawn."""
        number = sample_idx.shape[0]
        # not from the bank's shape: looking at a buffer that is allocated later confuses the compiler
        size, k = cast("int", self.num_samples), self.neg_num
        if contrast_idx is not None:
            contrast_idx = checks.index("contrast_idx", contrast_idx)
            if contrast_idx.ndim != 2 or contrast_idx.shape[0] != number or contrast_idx.shape[1] < 2:
                raise InputError(
                    f"expected contrast_idx of shape ({number}, 1 + K), the positive first; "
                    f"got {tuple(contrast_idx.shape)}."
                )
            return contrast_idx[:, 0], contrast_idx[:, 1:]
        if self.share_negatives:
            return sample_idx, torch.randint(size, (k,), device=sample_idx.device)
        drawn = torch.randint(size - 1, (number, k), device=sample_idx.device)
        return sample_idx, drawn + (drawn >= sample_idx.unsqueeze(1))  # any index but the own
