"""Decoupled knowledge distillation (Zhao et al., CVPR 2022, arXiv 2203.08679)."""

from __future__ import annotations

from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core import BaseLoss, LossOptions, examples
from losses_core.kernels import definition
from losses_core.utils import checks
from losses_core.utils.warn import warn_user
from losses_distill._inputs import check_class_dim, check_ignore_index, prepare_logits
from losses_distill.kd_loss._divergence import kl_divergence

_TWO_CLASSES = (
    "DKDLoss with two classes: one class is left beside the true one, so the part weighted by beta is 0. "
    "KnowledgeDistillationLoss does the same without labels."
)


def _prepare(pred: Tensor, target: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    options["labels"] = checks.index("labels", options["labels"])
    pred, target, options = prepare_logits(pred, target, options)
    if pred.shape[1] == 2:
        warn_user(_TWO_CLASSES, once=True)
    return pred, target, options


def _normalizer(pred: Tensor, target: Tensor, *, labels: Tensor, ignore_index: int | None, **_: Any) -> Tensor | None:
    return None if ignore_index is None else labels != ignore_index


@definition(layout="classes", prepare=_prepare, normalizer=_normalizer, rows=("labels",))
def dkd_loss(
    pred: Tensor,
    target: Tensor,
    *,
    labels: Tensor,
    temperature: float | Tensor = 4.0,
    alpha: float = 1.0,
    beta: float = 8.0,
    class_dim: int | None = None,
    ignore_index: int | None = -100,
    teacher_detach: bool = True,
) -> Tensor:
    """Compute the decoupled distillation of the true class and of the others, unreduced: see `DKDLoss`.

    Args:
        pred: logits of the student, (N,C,*S) or the classes on ``class_dim``.
        target: logits of the teacher, of the shape of ``pred``.
        labels: class indices, of the shape of ``pred`` without its class axis.
        temperature: T > 0; a 0-d tensor gets a gradient.
        alpha: weight of the part of the true class.
        beta: weight of the part of the other classes.
        class_dim: axis of the classes; None: axis 1 of 2-, 4- and 5-D logits.
        ignore_index: label that is ignored; None: none is.
        teacher_detach: no gradient reaches ``target``.

    Returns:
        Unreduced: value, of the shape of ``labels``, and normalizer, 0 where ignored.
    """
    index = labels.unsqueeze(1)
    if ignore_index is not None:
        ignored = index == ignore_index
        index = index.masked_fill(ignored, 0)
        pred, target = pred.masked_fill(ignored, 0), target.masked_fill(ignored, 0)
    student, teacher = (_decouple(logits / temperature, index) for logits in (pred, target))
    # the odds of two classes, the true one and all others
    log_p, log_q = (F.logsigmoid(torch.stack((odds, -odds))) for _, odds, _ in (student, teacher))
    tckd = kl_divergence(log_q, log_p, 0, corrected=False)
    nckd = kl_divergence(teacher[0], student[0], 1).unsqueeze(1).masked_fill(teacher[2], 0)
    return ((alpha * tckd + beta * nckd) * (temperature * temperature)).squeeze(1)


def _decouple(logits: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Separate the class ``index`` from the others.

    Returns:
        The log-probabilities of the others among themselves, with the lowest number at ``index``, which is probability
        0; the log odds of ``index``; whether all others are masked by -inf, in which case the first has no meaning.
    """
    # the lowest number in place of -inf: a log_softmax of -inf alone would be NaN
    others = logits.scatter(1, index, torch.finfo(logits.dtype).min)
    log_rest = F.log_softmax(others, 1)
    # logsumexp of the others from their largest; never 1 - p, which is 0 for confident logits
    top = others.argmax(1, keepdim=True)
    largest = others.gather(1, top)
    odds = logits.gather(1, index) - (largest - log_rest.gather(1, top))
    return log_rest, odds, top == index


class DKDLoss(BaseLoss):
    r"""Knowledge distillation with separate weights for the true class and for the other classes.

    With :math:`q, p` the softened probabilities of teacher and student, :math:`t` the label and
    :math:`\hat q_c = q_c/(1-q_t)`, :math:`\hat p_c = p_c/(1-p_t)` those of the other classes among themselves,

    .. math::
        l = T^2 (\alpha\,\mathrm{TCKD} + \beta\,\mathrm{NCKD}), \qquad
        \mathrm{TCKD} = q_t \log\frac{q_t}{p_t} + (1-q_t) \log\frac{1-q_t}{1-p_t}, \qquad
        \mathrm{NCKD} = \sum_{c \ne t} \hat q_c \log\frac{\hat q_c}{\hat p_c}

    Knowledge distillation itself is :math:`\mathrm{TCKD} + (1-q_t)\,\mathrm{NCKD}`: with a confident teacher, the other
    classes hardly contribute to it.

    Use when: classification with labels and a confident teacher, whose knowledge lies in the probabilities of the wrong
    classes.

    Args:
        temperature: T > 0. Default: 4. May be given per call, also as a 0-d tensor, which gets a gradient.
        alpha: weight of the true class ≥ 0. Default: 1.
        beta: weight of the other classes ≥ 0. Default: 8.
        class_dim: axis of the classes. Default: None, axis 1 of 2-, 4- and 5-D logits; 3-D logits need it.
        ignore_index: label that is ignored; None: none is. Default: -100. May be given per call.
        teacher_detach: no gradient reaches the teacher; False for mutual learning. Default: True.
        **options: ``loss_weight``, ``reduction`` (``'batchmean'``, the sum over N, too), ``avg_factor``, ``loss_name``,
            ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits of the student, (N,C), (N,C,H,W), (N,C,D,H,W); any shape with ``class_dim``, (N,L,C) say.
        - target: logits of the teacher, of the shape of pred.
        - labels: at the call, required: integer, values in [0,C) or ``ignore_index``; pred without its class axis.
        - weight: of the shape of the labels or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` (over the labels not ignored), ``batchmean`` and ``sum``; the shape of the labels for ``none``.

    Raises:
        TypeError: a call without ``labels=``.
        InputError: shapes that differ; 3-D logits without ``class_dim``; a temperature that is not positive; a label
            outside the classes.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = DKDLoss(temperature=1.0, beta=2.0)
        >>> student = torch.tensor([[1.0, 0.0, 0.0]], requires_grad=True)
        >>> loss(student, torch.tensor([[3.0, 1.0, 0.0]]), labels=torch.tensor([0]))
        tensor(0.3879, grad_fn=<...>)

    References:
        Zhao et al., Decoupled Knowledge Distillation, CVPR 2022, arXiv 2203.08679, eq. 7.

    Notes:
        Computed in log space, so that logit gaps of thousands are exact; the authors' code takes logarithms of
        probabilities and is inf at a gap of 160. It subtracts 1000 from the logit of the true class, which this loss
        excludes exactly. Neither part is ever negative. With two classes NCKD is 0, and a warning says so once. Saved
        for backward, beside the two logits, is one tensor of their size and dtype, the gradient.
    """

    function = dkd_loss
    example = examples.LOGITS
    reductions = ("none", "mean", "sum", "batchmean")
    per_call = ("temperature", "ignore_index")

    def __init__(
        self,
        temperature: float = 4.0,
        alpha: float = 1.0,
        beta: float = 8.0,
        class_dim: int | None = None,
        ignore_index: int | None = -100,
        teacher_detach: bool = True,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.temperature = checks.number(self, "temperature", temperature, above=0)
        self.alpha = checks.number(self, "alpha", alpha, low=0)
        self.beta = checks.number(self, "beta", beta, low=0)
        self.class_dim = check_class_dim(self, class_dim)
        self.ignore_index = check_ignore_index(self, ignore_index)
        self.teacher_detach = checks.flag(self, "teacher_detach", teacher_detach)
