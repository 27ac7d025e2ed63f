"""Knowledge distillation by softened probabilities (Hinton et al., 2015, arXiv 1503.02531)."""

from __future__ import annotations

from typing import Any, Unpack

import torch.nn.functional as F
from torch import Tensor

from losses_core import BaseLoss, CommonOptions, examples
from losses_core.errors import InputError
from losses_core.kernels import definition
from losses_core.utils import checks
from losses_distill._inputs import check_class_dim, check_ignore_index, count_labelled, prepare_masked_logits
from losses_distill.kd_loss._divergence import kl_divergence, standardize

DIRECTIONS = ("forward", "reverse")


def _prepare(pred: Tensor, target: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    if options["kl_direction"] not in DIRECTIONS:
        raise InputError(
            f"kl_direction: expected one of {', '.join(map(repr, DIRECTIONS))}; got {options['kl_direction']!r}."
        )
    return prepare_masked_logits(pred, target, options)


@definition(layout="classes", prepare=_prepare, normalizer=count_labelled, rows=("labels",))
def kd_loss(
    pred: Tensor,
    target: Tensor,
    *,
    temperature: float | Tensor = 4.0,
    kl_direction: str = "forward",
    class_dim: int | None = None,
    labels: Tensor | None = None,
    ignore_index: int | None = -100,
    logit_standardize: bool = False,
    teacher_detach: bool = True,
) -> Tensor:
    """Compute the divergence between the softened probabilities of teacher and student, unreduced.

    See `KnowledgeDistillationLoss`.

    Args:
        pred: logits of the student, (N,C,*S) or the classes on ``class_dim``.
        target: logits of the teacher, of the shape of ``pred``.
        temperature: T > 0; a 0-d tensor gets a gradient.
        kl_direction: ``'forward'``, KL(teacher ‖ student), or ``'reverse'``.
        class_dim: axis of the classes; None: axis 1 of 2-, 4- and 5-D logits.
        labels: class indices, of the shape of pred without its class axis; positions of the label ``ignore_index`` are
            ignored.
        ignore_index: see ``labels``; None: nothing is ignored.
        logit_standardize: standardize the logits of each position first.
        teacher_detach: no gradient reaches ``target``.

    Returns:
        Unreduced: value, of the shape of ``pred`` without its class axis, and normalizer, 0 where ignored.
    """
    if labels is not None and ignore_index is not None:
        ignored = (labels == ignore_index).unsqueeze(1)
        pred, target = pred.masked_fill(ignored, 0), target.masked_fill(ignored, 0)
    if logit_standardize:
        pred, target = standardize(pred)[0], standardize(target)[0]
    log_p, log_q = (F.log_softmax(logits / temperature, 1) for logits in (pred, target))
    divergence = kl_divergence(log_q, log_p, 1) if kl_direction == "forward" else kl_divergence(log_p, log_q, 1)
    return divergence * (temperature * temperature)


class KnowledgeDistillationLoss(BaseLoss):
    r"""Kullback-Leibler divergence between the softened probabilities of a teacher and a student.

    With :math:`q = \operatorname{softmax}(z_t/T)` of the teacher and :math:`p = \operatorname{softmax}(z_s/T)` of the
    student, for each sample or position

    .. math::
        l_\text{forward} = T^2\, \mathrm{KL}(q \,\|\, p) = T^2 \sum_c q_c (\log q_c - \log p_c)

    .. math::
        l_\text{reverse} = T^2\, \mathrm{KL}(p \,\|\, q) = T^2 \sum_c p_c (\log p_c - \log q_c)

    The mean divides by the number of positions, ``batchmean`` by N; for (N,C) logits they are equal.

    Use when: a small model learns from the outputs of a larger one, beside its task loss; with ``logit_standardize``
    where the two differ much in the scale of their logits; ``reverse`` where the student should concentrate on some of
    the teacher's modes instead of covering all (language models).

    Args:
        temperature: T > 0: the larger, the more the small probabilities count. Default: 4. May be given per call, also
            as a 0-d tensor, which gets a gradient.
        reduction: ``'none'``, ``'mean'``, ``'sum'`` or ``'batchmean'``. Default: ``'batchmean'``.
        kl_direction: ``'forward'``, KL(teacher ‖ student), or ``'reverse'``, KL(student ‖ teacher). Default:
            ``'forward'``.
        class_dim: axis of the classes. Default: None, axis 1 of 2-, 4- and 5-D logits; 3-D logits need it.
        ignore_index: positions with this label are ignored, where the call gives ``labels=``; None: nothing is.
            Default: -100. May be given per call.
        logit_standardize: replace the logits of each position by (z - mean)/std first. Default: False.
        teacher_detach: no gradient reaches the teacher; False for mutual learning. Default: True.
        **options: ``loss_weight``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits of the student, (N,C), (N,C,H,W), (N,C,D,H,W); any shape with ``class_dim``, (N,L,C) say.
        - target: logits of the teacher, of the shape of pred.
        - labels: optional, at the call: integer, values in [0,C) or ``ignore_index``; pred without its class axis.
        - weight: of the shape of pred without its class axis, or a leading-dims prefix of it.

    Returns:
        0-d for ``batchmean``, ``mean`` and ``sum``; the shape of pred without its class axis for ``none``.

    Raises:
        InputError: shapes that differ; 3-D logits without ``class_dim``; a temperature that is not positive; a label
            outside the classes.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = KnowledgeDistillationLoss(temperature=2.0)
        >>> student = torch.tensor([[1.0, 0.0, 0.0]], requires_grad=True)
        >>> loss(student, torch.tensor([[3.0, 0.0, 0.0]]))
        tensor(0.4673, grad_fn=<...>)

    References:
        Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network, NIPS workshop 2014, arXiv 1503.02531.
        Sun et al., Logit Standardization in Knowledge Distillation, CVPR 2024, arXiv 2403.01427.

    Notes:
        The usual shorthand KL(softmax(z_s/T) ‖ softmax(z_t/T)) names the reverse direction, while every well-known
        implementation computes the forward one; both formulas are above. Classes whose logits are -inf in teacher
        and student contribute 0 (NaN in torch's ``kl_div`` with ``log_target=True``). The loss is never negative, also
        where both distributions are nearly equal. Saved for backward, beside the two logits, is one tensor of their
        size and dtype, the gradient. The std of ``logit_standardize`` is that of the paper, over C; the authors' code
        takes C - 1. mmrazor averages dense logits over N, as ``batchmean`` does; ``mean`` averages over positions.
    """

    function = kd_loss
    example = examples.LOGITS
    reductions = ("none", "mean", "sum", "batchmean")
    per_call = ("temperature", "ignore_index")

    def __init__(
        self,
        temperature: float = 4.0,
        reduction: str = "batchmean",
        kl_direction: str = "forward",
        class_dim: int | None = None,
        ignore_index: int | None = -100,
        logit_standardize: bool = False,
        teacher_detach: bool = True,
        **options: Unpack[CommonOptions],
    ) -> None:
        super().__init__(reduction=reduction, **options)
        self.temperature = checks.number(self, "temperature", temperature, above=0)
        self.kl_direction = checks.choice(self, "kl_direction", kl_direction, DIRECTIONS)
        self.class_dim = check_class_dim(self, class_dim)
        self.ignore_index = check_ignore_index(self, ignore_index)
        self.logit_standardize = checks.flag(self, "logit_standardize", logit_standardize)
        self.teacher_detach = checks.flag(self, "teacher_detach", teacher_detach)


KDLoss = KnowledgeDistillationLoss
