"""Decoupled knowledge distillation (Zhao et al., CVPR 2022, arXiv 2203.08679)."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core import BaseLoss, LossOptions, Unreduced, examples
from losses_core.utils import checks
from losses_core.utils.autograd import Function
from losses_core.utils.precision import full_precision
from losses_distill._inputs import (
    check_class_dim,
    check_labels,
    check_temperature,
    class_axis,
    teacher_of,
    weight_on_logits,
)
from losses_distill._warn import warn_user


@full_precision
def dkd_loss(
    pred: Tensor,
    target: Tensor,
    labels: Tensor,
    *,
    temperature: float | Tensor = 4.0,
    alpha: float = 1.0,
    beta: float = 8.0,
    class_dim: int | None = None,
    ignore_index: int = -100,
    teacher_detach: bool = True,
) -> Tensor:
    """Decoupled distillation of the true class and of the others, unreduced: see `DKDLoss`.

    Args:
        pred: logits of the student, (N,C,*S) or the classes on ``class_dim``.
        target: logits of the teacher, of the shape of ``pred``.
        labels: class indices, of the shape of ``pred`` without its class axis.
        temperature: T > 0; a 0-d tensor gets a gradient.
        alpha: weight of the part of the true class.
        beta: weight of the part of the other classes.
        class_dim: axis of the classes; None: axis 1 of 2-, 4- and 5-D logits.
        ignore_index: label whose loss and gradient are 0.
        teacher_detach: no gradient reaches ``target``.

    Returns:
        The shape of ``labels``.
    """
    axis = class_axis(pred, class_dim)
    target = teacher_of(target, pred, detach=teacher_detach)
    checks.same_shape(pred, target)
    check_temperature(temperature)
    labels = check_labels(labels, pred, axis)
    if pred.shape[axis] == 1:  # both parts are divergences of sure things
        return pred.narrow(axis, 0, 0).sum(axis)
    if pred.shape[axis] == 2 and not torch.compiler.is_compiling():
        _warn_two_classes()
    if isinstance(temperature, Tensor):
        formula = _Decoupled(axis, 1.0, alpha, beta, ignore_index)
        value: Tensor = _DKD.apply(pred / temperature, target / temperature, labels, formula)
        return value * (temperature * temperature)
    formula = _Decoupled(axis, float(temperature), alpha, beta, ignore_index)
    return _DKD.apply(pred, target, labels, formula)  # type: ignore[no-any-return]


@functools.cache
def _warn_two_classes() -> None:
    warn_user(
        "DKDLoss with two classes: one class is left beside the true one, so the part weighted by beta is 0. "
        "KnowledgeDistillationLoss does the same without labels."
    )


class _Parts(NamedTuple):
    """One network's view: the true class against the rest, and the classes of the rest among themselves."""

    odds: Tensor
    """Logit of the true class minus logsumexp of the others: its log odds."""
    rest: Tensor
    """log of the probability of each other class among the others; -inf at the true class."""


@dataclasses.dataclass(frozen=True)
class _Decoupled:
    """T²(α TCKD + β NCKD), its gradients, and the places that are ignored."""

    axis: int
    temperature: float
    alpha: float
    beta: float
    ignore_index: int

    def index(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Labels fit for a gather, with the class axis; and where they are ignored, without it."""
        hidden = labels == self.ignore_index
        return labels.masked_fill(hidden, 0).unsqueeze(self.axis), hidden

    def split(self, x: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logit of the true class, the logits with -inf in its place, and the largest of these."""
        z = x if self.temperature == 1 else x / self.temperature
        others = z.scatter(self.axis, index, -torch.inf)
        return z.gather(self.axis, index), others, others.amax(self.axis, keepdim=True)

    def parts(self, x: Tensor, index: Tensor) -> _Parts:
        true, others, most = self.split(x, index)
        rest = F.log_softmax(others, self.axis)
        # logsumexp of the others is max(others) - max(rest); never 1 - p, which is 0 at large gaps
        return _Parts(*self.settled(true, most, rest.amax(self.axis, keepdim=True), rest, -torch.inf))

    def probabilities(self, x: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """The log odds, and the probabilities of the others among themselves."""
        true, others, most = self.split(x, index)
        rest = F.softmax(others, self.axis)
        return self.settled(true, most, rest.amax(self.axis, keepdim=True).log(), rest, 0)

    @staticmethod
    def settled(true: Tensor, most: Tensor, log_most: Tensor, rest: Tensor, none: float) -> tuple[Tensor, Tensor]:
        """The log odds, and ``rest`` with ``none`` where all other classes are masked by -inf: it is NaN there."""
        alone = most == -torch.inf
        odds = true - torch.where(alone, most, most - log_most)
        return odds, rest.masked_fill(alone, none) if torch.is_grad_enabled() else rest.masked_fill_(alone, none)

    def value(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        index, hidden = self.index(labels)
        student, teacher = self.parts(x, index), self.parts(t, index)
        q, rest_q = torch.sigmoid(teacher.odds), torch.sigmoid(-teacher.odds)
        true = _times(q, F.logsigmoid(teacher.odds) - F.logsigmoid(student.odds))
        true = true + _times(rest_q, F.logsigmoid(-teacher.odds) - F.logsigmoid(-student.odds))
        # NaN at the true class, and where both logits are -inf: these terms are 0. A NaN that was given reaches the
        # odds
        others = ((teacher.rest - student.rest) * teacher.rest.exp()).nansum(self.axis, keepdim=True)
        value = (self.alpha * true + self.beta * others) * self.temperature**2
        return value.squeeze(self.axis).masked_fill(hidden, 0)

    def slope(self, x: Tensor, t: Tensor, labels: Tensor, grad: Tensor) -> Tensor:
        """Gradient with respect to the student's logits."""
        index, hidden = self.index(labels)
        (odds_p, p), (odds_q, q) = self.probabilities(x, index), self.probabilities(t, index)
        grad = grad * self.temperature
        true = self.alpha * (torch.sigmoid(odds_p) - torch.sigmoid(odds_q))
        slope = (p * ((self.beta - true) * grad) - q * (self.beta * grad)).scatter(self.axis, index, true * grad)
        return torch.where(hidden.unsqueeze(self.axis), 0, slope)

    def teacher_slope(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """Gradient with respect to the teacher's logits."""
        index, hidden = self.index(labels)
        student, teacher = self.parts(x, index), self.parts(t, index)
        q = teacher.rest.exp()
        both = torch.sigmoid(teacher.odds) * torch.sigmoid(-teacher.odds)
        true = self.alpha * _times(both, teacher.odds - student.odds)
        excess = torch.where(q == 0, 0, teacher.rest - student.rest)
        mean = (q * excess).sum(self.axis, keepdim=True)
        slope = (self.beta * q * (excess - mean) - true * q).scatter(self.axis, index, true) * self.temperature
        return torch.where(hidden.unsqueeze(self.axis), 0, slope)


def _times(p: Tensor, x: Tensor) -> Tensor:
    """p·x, and 0 where p is, also for an infinite x."""
    return torch.where(p == 0, 0, p * x)


class _DKD(Function):
    """Keeps the logits and the labels."""

    @staticmethod
    def forward(x: Tensor, t: Tensor, labels: Tensor, formula: _Decoupled) -> Tensor:
        return formula.value(x, t, labels)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.formula = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, t, labels = ctx.saved_tensors
        formula: _Decoupled = ctx.formula
        grad = grad.unsqueeze(formula.axis)
        grad_x = formula.slope(x, t, labels, grad) if ctx.needs_input_grad[0] else None
        grad_t = formula.teacher_slope(x, t, labels) * grad if ctx.needs_input_grad[1] else None
        return grad_x, grad_t, None, None


class DKDLoss(BaseLoss):
    r"""Knowledge distillation that weighs the true class and the other classes on their own.

    With :math:`q, p` the softened probabilities of teacher and student, :math:`t` the label and
    :math:`\hat q_c = q_c/(1-q_t)`, :math:`\hat p_c = p_c/(1-p_t)` those of the other classes among themselves,

    .. math::
        l = T^2 (\alpha\,\mathrm{TCKD} + \beta\,\mathrm{NCKD}), \qquad
        \mathrm{TCKD} = q_t \log\frac{q_t}{p_t} + (1-q_t) \log\frac{1-q_t}{1-p_t}, \qquad
        \mathrm{NCKD} = \sum_{c \ne t} \hat q_c \log\frac{\hat q_c}{\hat p_c}

    Knowledge distillation itself is :math:`\mathrm{TCKD} + (1-q_t)\,\mathrm{NCKD}`: where the teacher is sure, it
    hardly tells the other classes apart.

    Use when: classification with labels and a confident teacher, whose knowledge lies in the classes it rules out.

    Args:
        temperature: T > 0. Default: 4. May be given per call, also as a 0-d tensor that learns.
        alpha: weight of the true class ≥ 0. Default: 1.
        beta: weight of the other classes ≥ 0. Default: 8.
        class_dim: axis of the classes. Default: None, axis 1 of 2-, 4- and 5-D logits; 3-D logits need it.
        ignore_index: label that costs nothing and gets no gradient. Default: -100. May also be given per call.
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
        InputError: shapes that differ; 3-D logits without ``class_dim``; a temperature that is not positive.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = DKDLoss(temperature=1.0, beta=2.0)
        >>> student = torch.tensor([[1.0, 0.0, 0.0]], requires_grad=True)
        >>> loss(student, torch.tensor([[3.0, 1.0, 0.0]]), labels=torch.tensor([0]))
        tensor(0.3879, grad_fn=<DivBackward0>)

    References:
        Zhao et al., Decoupled Knowledge Distillation, CVPR 2022, arXiv 2203.08679, eq. 7.

    Notes:
        Computed from log-sum-exps, so that logit gaps of thousands are exact; the authors' code takes logarithms of
        probabilities and is inf at a gap of 160. It subtracts 1000 from the logit of the true class, which here is left
        out exactly. With two classes NCKD is 0, and a warning says so once.
    """

    example = examples.LOGITS
    reductions = ("none", "mean", "sum", "batchmean")

    def __init__(
        self,
        temperature: float = 4.0,
        alpha: float = 1.0,
        beta: float = 8.0,
        class_dim: int | None = None,
        ignore_index: int = -100,
        teacher_detach: bool = True,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.temperature = checks.number(self, "temperature", temperature, above=0)
        self.alpha = checks.number(self, "alpha", alpha, low=0)
        self.beta = checks.number(self, "beta", beta, low=0)
        self.class_dim = check_class_dim(self, class_dim)
        self.ignore_index = checks.number(self, "ignore_index", ignore_index, integer=True)
        self.teacher_detach = checks.flag(self, "teacher_detach", teacher_detach)

    def _on_pred(self, weight: Tensor, pred: Tensor) -> Tensor | None:
        return weight_on_logits(weight, pred, self.class_dim)

    def _forward(
        self, pred: Tensor, target: Tensor, *, labels: Tensor, temperature: float | Tensor, ignore_index: int
    ) -> Unreduced:
        value = dkd_loss(
            pred,
            target,
            labels,
            temperature=temperature,
            alpha=self.alpha,
            beta=self.beta,
            class_dim=self.class_dim,
            ignore_index=ignore_index,
            teacher_detach=self.teacher_detach,
        )
        return Unreduced(value, labels != ignore_index)
