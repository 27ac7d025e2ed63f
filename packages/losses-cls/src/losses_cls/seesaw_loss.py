"""Seesaw loss for long-tailed classes (Wang et al., CVPR 2021, arXiv 2008.10032)."""

from __future__ import annotations

import math
from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_cls._targets import check_index, check_lengths, ignored_label, index_normalizer, is_index
from losses_cls.cross_entropy.softmax import negative_expectation
from losses_core import BaseLoss, LossOptions, Unreduced, examples
from losses_core._blocks import ranges
from losses_core.distributed import all_reduce_sum
from losses_core.errors import InputError
from losses_core.kernels import Prepared, definition
from losses_core.utils import checks
from losses_core.utils.focal import along_channels

_LABELS_AT_ONCE = 1 << 20


def _labels(pred: Tensor, target: Tensor, ignore_index: int | None) -> tuple[Tensor, int | None]:
    if not is_index(pred, target):
        raise InputError(
            f"expected target with class indices of shape {(pred.shape[0], *pred.shape[2:])} for pred "
            f"{tuple(pred.shape)}; got {tuple(target.shape)}."
        )
    return check_index(pred, target, ignore_index)


def _prepare(pred: Tensor, target: Tensor, **options: Any) -> Prepared:
    target, options["ignore_index"] = _labels(pred, target, options["ignore_index"])
    check_lengths(pred, {"counts": checks.tensor("counts", options["counts"])})
    return pred, target, options


def _normalizer(pred: Tensor, target: Tensor, *, ignore_index: int | None, **_: Any) -> Tensor | None:
    return index_normalizer(target, ignore_index, None)


@definition(layout="classes", prepare=_prepare, normalizer=_normalizer)
def seesaw_loss(
    pred: Tensor,
    target: Tensor,
    *,
    counts: Tensor,
    p: float = 0.8,
    q: float = 2.0,
    eps: float = 0.01,
    ignore_index: int | None = -100,
) -> Unreduced:
    """Seesaw loss, unreduced: see `SeesawLoss`.

    Args:
        pred: logits (N,C,*S).
        target: class indices (N,*S).
        counts: (C,), how often each class has occurred.
        p: exponent of the mitigation ≥ 0.
        q: exponent of the compensation ≥ 0.
        eps: lower bound of the probability of the label's class in the compensation > 0.
        ignore_index: label that is ignored; None: none is.

    Returns:
        ``Unreduced``: a value (N,*S), and a normalizer of 1, 0 where ignored.
    """
    ignored = None if ignore_index is None else target == ignore_index
    if ignored is not None:
        pred, target = pred.masked_fill(ignored.unsqueeze(1), 0), target.masked_fill(ignored, 0)
    shifted = pred + log_factors(pred.detach(), target.unsqueeze(1), counts, p, q, eps)
    value = negative_expectation(shifted, target, None, None, 0.0)
    return value if ignored is None else value.masked_fill(ignored, 0)  # type: ignore[return-value]


def log_factors(x: Tensor, labels: Tensor, counts: Tensor, p: float, q: float, eps: float) -> Tensor:
    """The logarithm of the factor of each class for labels with a class axis; 0 for the label's own class."""
    log_counts = counts.clamp(min=1).to(x.dtype).log()
    log_p = F.log_softmax(x, 1)
    compensation = (log_p - log_p.gather(1, labels).clamp(min=math.log(eps))).clamp(min=0)
    mitigation = (along_channels(log_counts, x) - log_counts[labels]).clamp(max=0)
    return torch.add(q * compensation, mitigation, alpha=p)


class SeesawLoss(BaseLoss):
    r"""Seesaw loss: reduces the negative gradients of rare classes, except where they are false positives.

    .. math::
        l = -\log \frac{e^{x_y}}{e^{x_y} + \sum_{c \ne y} S_c\, e^{x_c}}, \qquad
        S_c = \min\!\left(1, \frac{n_c}{n_y}\right)^{p}
        \max\!\left(1, \frac{\sigma_c}{\max(\sigma_y, \epsilon)}\right)^{q}

    with :math:`\sigma = \operatorname{softmax}(x)`, and :math:`n` the number of labels of each class seen so far, at
    least 1. S carries no gradient.

    Use when: classes are long-tailed and their frequencies are not known beforehand: instance segmentation and
    detection with many classes.

    Args:
        num_classes: C.
        p: exponent of the mitigation ≥ 0; 0 turns it off. Default: 0.8.
        q: exponent of the compensation ≥ 0; 0 turns it off. Default: 2.
        eps: lower bound of the probability of the label's class in the compensation > 0. Default: 0.01.
        ignore_index: label that is ignored: its loss and gradient are 0, and it is not counted, neither as a sample nor
            as a label of its class; None: no label is. Default: -100. May also be given per call.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,C,*S), any number of further dims.
        - target: (N,*S) integer, values in [0,C) or ``ignore_index``.
        - weight: (N,*S) or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` (Σ l / number of labels not ignored) and ``sum``, (N,*S) for ``none``.

    Raises:
        InputError: a shape or a dtype that does not fit, another number of channels than ``num_classes``; on the CPU, a
            label outside [0,C) that is not ``ignore_index``.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = SeesawLoss(num_classes=2)
        >>> loss(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
        tensor(0.3133)
        >>> loss.class_counts
        tensor([1, 0])

    References:
        Wang et al., Seesaw Loss for Long-Tailed Instance Segmentation, CVPR 2021, arXiv 2008.10032.

    Notes:
        The counts are the buffer ``class_counts``, int64, part of ``state_dict``. In training mode the labels of a
        batch are added before its loss is computed; in ``eval()`` mode nothing is added. With ``sync_dist`` the labels
        of all ranks are added on each. The value equals mmdet's ``seesaw_ce_loss`` with the same counts; mmdet's class
        counts in validation too, and in float32, where counting stops at 2^24. Its objectness branch (C + 2 channels)
        is not part of this loss. p = q = 0 is `CrossEntropyLoss`.
    """

    coupled = "batch"
    function = seesaw_loss
    internal_options = ("counts",)
    example = examples.LABELS.built_with(num_classes=10)
    class_counts: Tensor

    def __init__(
        self,
        num_classes: int,
        p: float = 0.8,
        q: float = 2.0,
        eps: float = 0.01,
        ignore_index: int | None = -100,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.num_classes = checks.number(self, "num_classes", num_classes, low=1, integer=True)
        self.p = checks.number(self, "p", p, low=0)
        self.q = checks.number(self, "q", q, low=0)
        self.eps = checks.number(self, "eps", eps, above=0)
        self.ignore_index = ignored_label(self, ignore_index)
        self.register_buffer("class_counts", torch.zeros(num_classes, dtype=torch.int64))

    def _arguments(self, pred: Any, target: Any, options: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
        if pred.ndim < 2 or pred.shape[1] != self.num_classes:
            raise InputError(f"expected pred with num_classes={self.num_classes} on axis 1; got {tuple(pred.shape)}.")
        counts = self.class_counts
        if counts.device != pred.device:
            counts = counts.to(pred.device)
            if not (pred.is_meta or torch.compiler.is_compiling()):
                self.class_counts = counts
        if self.training:
            target, ignore_index = _labels(pred, target, options["ignore_index"])
            batch = _count(target.flatten(), self.num_classes, ignore_index)
            counts.add_(all_reduce_sum(batch, self.process_group) if self._synchronises() else batch)
        # a copy, as the next batch may be counted before the backward of this one
        return pred, target, {**options, "counts": counts.clone()}


def _count(labels: Tensor, classes: int, ignore_index: int | None) -> Tensor:
    """How often each class occurs, (C,) int64, in no more memory than a part of the labels takes."""
    counts = torch.zeros(classes + 1, dtype=torch.int64, device=labels.device)  # the last one: ignored
    one = torch.ones_like(counts[:1])
    for start, end in ranges(labels.shape[0], _LABELS_AT_ONCE):
        part = labels[start:end]
        if ignore_index is not None:
            part = part.masked_fill(part == ignore_index, classes)
        counts = counts.scatter_add(0, part, one.expand_as(part))
    return counts[:-1]
