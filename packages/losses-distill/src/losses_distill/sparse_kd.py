"""Distillation from the most probable classes of a teacher, as servers and stored data sets give them."""

from __future__ import annotations

from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core import BaseLoss, InputError, LossOptions, examples
from losses_core.kernels import definition
from losses_core.utils import checks, value_checks
from losses_core.utils.precision import match_dtype, upcast
from losses_distill._inputs import check_ignore_index, check_temperature, count_labelled, prepare_teacher

__all__ = ["SparseKDLoss", "sparse_kd_loss"]

TAILS = ("bucket", "ignore", "renormalize")
_LARGEST_LOG = 1e-2
"""A log-probability may exceed 0 by the rounding of half precision."""


def _prepare(pred: Tensor, target: Any, **options: Any) -> tuple[Tensor, Any, dict[str, Any]]:
    """Check the arguments, and bring the teacher to the ids that are listed and the logarithms of K+1 probabilities."""
    if not isinstance(target, (list, tuple)) or len(target) != 2:
        raise InputError("expected target as a pair (ids, log-probabilities) of the teacher's classes, both (…, K).")
    pred, ids = checks.floating(pred), checks.index("target[0]", target[0])
    log_p = prepare_teacher(target[1])
    if pred.ndim == 0 or ids.ndim != pred.ndim or ids.shape[:-1] != pred.shape[:-1] or not ids.shape[-1]:
        raise InputError(
            f"expected target[0] of shape {(*pred.shape[:-1], 'K')}, K >= 1, for pred {tuple(pred.shape)} with the "
            f"classes last; got {tuple(ids.shape)}."
        )
    checks.shape("target[1]", log_p, ids.shape, reference=f"target[0] {tuple(ids.shape)}")
    if options["tail"] not in TAILS:
        raise InputError(f"tail: expected one of {', '.join(map(repr, TAILS))}; got {options['tail']!r}.")
    for name in ("temperature", "teacher_temperature"):
        if isinstance(options[name], Tensor):
            raise InputError(f"{name}: expected a number > 0; got a tensor.")
        check_temperature(options[name])
    classes, labels, ignored = pred.shape[-1], options["labels"], options["ignore_index"]
    value_checks.check_labels(ids.clamp(min=-1), classes, None, name="target[0]", extra=(-1,))
    _check_log_probabilities(log_p)
    if labels is not None:
        labels = checks.index("labels", labels)
        checks.shape("labels", labels, pred.shape[:-1], reference=f"pred {tuple(pred.shape)} with the classes last")
        ignored = value_checks.check_labels(labels, classes, ignored, name="labels")
    log_p = match_dtype(upcast(log_p), torch.float64 if pred.dtype == torch.float64 else torch.float32)
    ids, log_q = _teacher(ids, log_p, classes, options["tail"], options["teacher_temperature"] / options["temperature"])
    return pred, (ids, log_q), {**options, "labels": None if ignored is None else labels, "ignore_index": ignored}


def _check_log_probabilities(log_p: Tensor) -> None:
    if value_checks.values_are_checked(log_p) and log_p.numel():
        largest = log_p.max().item()
        if largest > _LARGEST_LOG:
            raise InputError(
                f"expected target[1] with logarithms of probabilities, <= 0; got {largest:g}. Take log_softmax of "
                "logits, and the logarithm of probabilities."
            )


def _teacher(ids: Tensor, log_p: Tensor, classes: int, tail: str, power: float) -> tuple[Tensor, Tensor]:
    """The ids, those of padding replaced by the most probable one, and log-probabilities (…,K+1), the rest last.

    What is padding, or has no part in the loss, has the log-probability -inf.
    """
    padding = (ids < 0) | (log_p == -torch.inf)
    log_p = log_p.masked_fill(padding, -torch.inf)
    most_probable = ids.gather(-1, log_p.argmax(-1, keepdim=True))
    empty = padding.all(-1, keepdim=True)
    whole = ((~padding).sum(-1, keepdim=True) >= classes) | empty
    rest = (1 - log_p.exp().sum(-1, keepdim=True)).clamp(min=0).masked_fill(whole, 0).log()
    if tail == "renormalize":
        rest = torch.full_like(rest, -torch.inf)
    log_q = torch.cat([log_p, rest], -1)
    if tail == "renormalize" or power != 1:
        log_q = F.log_softmax((log_q * power).masked_fill(empty, 0), -1).masked_fill(empty, -torch.inf)
    if tail == "ignore":
        log_q = torch.cat([log_q[..., :-1], torch.full_like(rest, -torch.inf)], -1)
    return torch.where(padding, most_probable, ids).clamp(min=0), log_q


def student_log_probabilities(listed: Tensor, rest: Tensor, log_q: Tensor) -> Tensor:
    """The student's logarithms of the K+1 probabilities; finite, without a meaning, where the teacher lists nothing.

    Args:
        listed: logits of the K ids.
        rest: logsumexp of all other logits, the lowest number where there are none.
        log_q: of the teacher, -inf for padding.
    """
    absent = log_q[..., :-1] == -torch.inf
    rest = rest.masked_fill(rest <= torch.finfo(rest.dtype).min / 2, -torch.inf)
    logits = torch.cat([listed.masked_fill(absent, -torch.inf), rest], -1)
    return F.log_softmax(logits.masked_fill(absent.all(-1, keepdim=True), 0), -1)


def cross_divergence(log_q: Tensor, log_s: Tensor) -> tuple[Tensor, Tensor]:
    """Σ q (log q - log s) of the last axis, and q; where q is 0 there is no term."""
    q = log_q.exp()
    absent = q == 0
    return (q * torch.where(absent, 0, log_q - log_s)).masked_fill(absent, 0).sum(-1), q


@definition(layout="last", prepare=_prepare, normalizer=count_labelled, rows=("labels",))
def sparse_kd_loss(
    pred: Tensor,
    target: tuple[Tensor, Tensor],
    *,
    temperature: float = 1.0,
    tail: str = "bucket",
    teacher_temperature: float = 1.0,
    labels: Tensor | None = None,
    ignore_index: int | None = -100,
) -> Tensor:
    """Compute the divergence of a student from K probabilities of a teacher, unreduced: see `SparseKDLoss`.

    Args:
        pred: logits of the student (…,V).
        target: ids (…,K) and log-probabilities (…,K) of the teacher.
        temperature: T > 0.
        tail: ``'bucket'``, ``'ignore'`` or ``'renormalize'``.
        teacher_temperature: temperature at which the log-probabilities were taken.
        labels: class indices (…); positions of the label ``ignore_index`` are ignored.
        ignore_index: see ``labels``; None: nothing is ignored.

    Returns:
        Unreduced: value (…), and normalizer, 0 where ignored.
    """
    ids, log_q = target
    if labels is not None and ignore_index is not None:
        ignored = (labels == ignore_index).unsqueeze(-1)
        pred, log_q = pred.masked_fill(ignored, 0), log_q.masked_fill(ignored, -torch.inf)
    logits = pred / temperature
    # the others' own logsumexp, never log(1 - Σ s), which is 0 and has no gradient where the student is sure
    rest = logits.scatter(-1, ids, torch.finfo(logits.dtype).min).logsumexp(-1, keepdim=True)
    log_s = student_log_probabilities(logits.gather(-1, ids), rest, log_q)
    return cross_divergence(log_q, log_s)[0] * (temperature * temperature)


def _top_k(loss: Any, draw: examples.Draw) -> examples.Inputs:
    """Logits of a student, and the four most probable classes of a teacher."""
    log_p = draw.normal(draw.pred).log_softmax(-1)
    values, ids = log_p.topk(min(4, draw.pred[-1]), -1)
    return examples.Inputs(draw.normal(draw.pred), (ids, values))


def _one_logit(loss: Any, t: Tensor) -> examples.Inputs:
    """Four classes, two of which the teacher lists; the student's logit of the first is t."""
    teacher = torch.tensor([[2.0, 1.0, 0.0, 0.0]], dtype=torch.float64).log_softmax(1)
    zero = torch.zeros_like(t)
    pred = torch.stack([t, zero + 1, zero, zero])[None]
    return examples.Inputs(pred, (torch.tensor([[0, 1]]), teacher[:, :2]))


_EXAMPLE = examples.Example(
    _top_k,
    (8, 10),
    examples.Path("student's logit of one class (the teacher's is 2)", "the logit", (-4, 8), {"": _one_logit}),
)


class SparseKDLoss(BaseLoss):
    r"""Knowledge distillation from the K most probable classes of a teacher and their log-probabilities.

    With :math:`p_k` of the teacher, :math:`S = \operatorname{softmax}(z/T)` of the student over all V classes, and
    :math:`p_0 = 1 - \sum_k p_k`, :math:`S_0 = \sum_{c \notin K} S_c` of the other classes together,

    .. math::
        l = T^2 \Big( \sum_{k=1}^{K} p_k \log\frac{p_k}{S_k} + p_0 \log\frac{p_0}{S_0} \Big)

    With ``tail='ignore'`` the last term is missing, and with ``'renormalize'`` p is divided by :math:`\sum_k p_k` too.
    Where the ids are all classes, this is `KnowledgeDistillationLoss`.

    Use when: the logits of the teacher are too large to store or to send, as those of a language model: servers give
    the log-probabilities of the K most probable tokens, and so do stored data sets.

    Args:
        temperature: T > 0. Default: 1.
        tail: what becomes of the other classes: ``'bucket'``, they are one class; ``'ignore'``, the student's are not
            looked at, and the loss may be negative; ``'renormalize'``, the teacher is certain that it is none of them.
            Default: ``'bucket'``.
        teacher_temperature: temperature at which the log-probabilities were taken, > 0. Default: 1.
        ignore_index: positions with this label are ignored, where the call gives ``labels=``; None: nothing is.
            Default: -100. May be given per call.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits of the student, (…,V), (N,L,V) say: the classes are last.
        - target: a pair: ids (…,K), integer, and log-probabilities (…,K). An entry with an id < 0 or the
          log-probability -inf is padding. The ids of a position must differ, which is not checked.
        - labels: optional, at the call: integer (…), values in [0,V) or ``ignore_index``.
        - weight: (…), or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` (over the positions not ignored) and ``sum``; (…) for ``none``.

    Raises:
        InputError: shapes that do not fit; an id ≥ V; numbers > 0 in place of log-probabilities; a label outside the
            classes.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = SparseKDLoss()
        >>> student = torch.tensor([[1.0, 0.0, 0.0, 0.0]], requires_grad=True)
        >>> log_p, ids = torch.tensor([[3.0, 1.0, 0.0, 0.0]]).log_softmax(1).topk(2)
        >>> loss(student, (ids, log_p))
        tensor(0.2618, grad_fn=<...>)

    References:
        Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network, NIPS workshop 2014, arXiv 1503.02531 (with
        all classes).
        Agarwal et al., On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes, ICLR 2024,
        arXiv 2306.13649.

    Notes:
        ``'bucket'`` is TRL's ``loss_add_tail`` and DistillKit's symmetric_uniform, ``'ignore'`` TRL's without the tail,
        ``'renormalize'`` DistillKit's zero. S₀ is the logsumexp of the other logits. TRL takes 1 - ΣS, clamped: for a
        confident student (a logit of 60) its tail has no gradient; the correct one is -p₀. Where ``temperature``
        differs from ``teacher_temperature``, p and p₀ are raised to the ratio of the two and normalized. That is exact
        if the ids are all classes; else the rest counts as one class, an approximation. A position without any entry
        has loss 0 and is counted: ignore it by its label. Saved for backward, beside the inputs, is one tensor of the
        size and dtype of the logits, the gradient.
    """

    function = sparse_kd_loss
    example = _EXAMPLE

    def __init__(
        self,
        temperature: float = 1.0,
        tail: str = "bucket",
        teacher_temperature: float = 1.0,
        ignore_index: int | None = -100,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.temperature = checks.number(self, "temperature", temperature, above=0)
        self.tail = checks.choice(self, "tail", tail, TAILS)
        self.teacher_temperature = checks.number(self, "teacher_temperature", teacher_temperature, above=0)
        self.ignore_index = check_ignore_index(self, ignore_index)

    def _stand_in(self, target: Any, num_classes: int | None) -> Tensor:
        ids, log_p = target
        return self._zeros((*ids.shape[:-1], max(self._classes(ids, num_classes), ids.shape[-1])), log_p)
