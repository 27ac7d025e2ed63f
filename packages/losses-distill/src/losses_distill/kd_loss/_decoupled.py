"""The divergences of the true class against the rest, and of the rest among themselves, with their gradients."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core.utils.autograd import Function


class Parts(NamedTuple):
    """One network's view: the true class against the rest, and the classes of the rest among themselves."""

    odds: Tensor
    """Logit of the true class minus logsumexp of the others: its log odds."""
    rest: Tensor
    """log of the probability of each other class among the others; -inf at the true class."""


@dataclasses.dataclass(frozen=True)
class Decoupled:
    """T²(α TCKD + β NCKD), its gradients, and the places that are ignored."""

    axis: int
    temperature: float
    alpha: float
    beta: float
    ignore_index: int

    def along(self, axis: int) -> Decoupled:
        """The same for logits with another class axis."""
        return dataclasses.replace(self, axis=axis)

    def index(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Labels fit for a gather, with the class axis; and where they are ignored, without it."""
        hidden = labels == self.ignore_index
        return labels.masked_fill(hidden, 0).unsqueeze(self.axis), hidden

    def split(self, x: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logit of the true class, the logits with -inf in its place, and the largest of these."""
        z = x if self.temperature == 1 else x / self.temperature
        others = z.scatter(self.axis, index, -torch.inf)
        return z.gather(self.axis, index), others, others.amax(self.axis, keepdim=True)

    def parts(self, x: Tensor, index: Tensor) -> Parts:
        true, others, most = self.split(x, index)
        rest = F.log_softmax(others, self.axis)
        # logsumexp of the others is max(others) - max(rest); never 1 - p, which is 0 at large gaps
        return Parts(*self.settled(true, most, rest.amax(self.axis, keepdim=True), rest, -torch.inf))

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
        true = of_odds(student.odds, teacher.odds)
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

    def moving(self, x: Tensor, labels: Tensor, slope: Tensor, scale: float) -> Tensor:
        """What of the ``slope``, which is the gradient times a number, changes with the student's logits."""
        index, hidden = self.index(labels)
        odds, p = self.probabilities(x, index)
        p_true, factor = torch.sigmoid(odds), self.temperature * scale
        weight = self.alpha * factor
        # T scale α(p - q) stands at the label; where that is 0 whatever q is, so is what q is needed for
        q = p_true.detach() - slope.gather(self.axis, index) / weight if weight else p_true
        true = self.alpha * (p_true - q)
        moving = (p * (self.beta - true)).scatter(self.axis, index, true) * factor
        return torch.where(hidden.unsqueeze(self.axis), 0, moving)

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


def of_odds(student: Tensor, teacher: Tensor) -> Tensor:
    """TCKD, from the log odds of the true class: exact to the digit also where these are large."""
    q, rest = torch.sigmoid(teacher), torch.sigmoid(-teacher)
    true = _times(q, F.logsigmoid(teacher) - F.logsigmoid(student))
    return true + _times(rest, F.logsigmoid(-teacher) - F.logsigmoid(-student))


def _times(p: Tensor, x: Tensor) -> Tensor:
    """p·x, and 0 where p is, also for an infinite x."""
    return torch.where(p == 0, 0, p * x)


class DecoupledDivergence(Function):
    """Keeps the logits and the labels."""

    @staticmethod
    def forward(x: Tensor, t: Tensor, labels: Tensor, formula: Decoupled) -> Tensor:
        return formula.value(x, t, labels)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.formula = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, t, labels = ctx.saved_tensors
        formula: Decoupled = ctx.formula
        grad = grad.unsqueeze(formula.axis)
        grad_x = formula.slope(x, t, labels, grad) if ctx.needs_input_grad[0] else None
        grad_t = formula.teacher_slope(x, t, labels) * grad if ctx.needs_input_grad[1] else None
        return grad_x, grad_t, None, None


class TracedDivergence(Function):
    """The same for a compiler, where only the student asks for a gradient: keeps four numbers per position as well.

    In a compiled loop exponentials cost less than to move them to and from memory.
    """

    @staticmethod
    def forward(x: Tensor, t: Tensor, labels: Tensor, formula: Decoupled) -> tuple[Tensor, ...]:
        axis = formula.axis
        _, hidden = formula.index(labels)
        odds_p, z_p, _, top_p, sum_p = _view(x, labels, formula)
        odds_q, z_q, e_q, top_q, sum_q = _view(t, labels, formula)
        # where both logits are -inf, and at the true class, the term is NaN and means 0
        terms = torch.where(e_q == 0, 0, e_q * (z_q - z_p)).sum(axis, keepdim=True)
        alone = top_q == -torch.inf
        others = torch.where(alone, 0, terms / sum_q + (sum_p / sum_q).log())
        value = (formula.alpha * of_odds(odds_p, odds_q) + formula.beta * others) * formula.temperature**2
        return value.squeeze(axis).masked_fill(hidden, 0), odds_p, odds_q, top_p, sum_p, top_q, sum_q

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *tensors, ctx.formula = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*tensors, *output[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor, None, None, None]:
        x, t, labels, odds_p, odds_q, top_p, sum_p, top_q, sum_q = ctx.saved_tensors
        formula: Decoupled = ctx.formula
        inverse, axis = 1 / formula.temperature, formula.axis
        grad = grad.unsqueeze(axis) * formula.temperature
        true = formula.alpha * (torch.sigmoid(odds_p) - torch.sigmoid(odds_q))
        p = torch.where(top_p == -torch.inf, 0, (x * inverse - top_p).exp() / sum_p)
        q = torch.where(top_q == -torch.inf, 0, (t * inverse - top_q).exp() / sum_q)
        slope = torch.where(_same(labels, x, axis), true, (formula.beta - true) * p - formula.beta * q) * grad
        hidden = (labels - formula.ignore_index).unsqueeze(axis) == 0
        return torch.where(hidden, 0, slope), None, None, None


def _view(x: Tensor, labels: Tensor, formula: Decoupled) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The log odds; logits and exponentials of the others, from their largest on; that, and the exponentials' sum."""
    axis = formula.axis
    index, _ = formula.index(labels)
    z = x * (1 / formula.temperature)
    others = torch.where(_same(labels, x, axis), -torch.inf, z)
    top = others.amax(axis, keepdim=True)
    shifted = others - top
    exponentials = shifted.exp()
    total = exponentials.sum(axis, keepdim=True)
    odds = z.gather(axis, index) - torch.where(top == -torch.inf, top, top + total.log())
    return odds, shifted, exponentials, top, total


def _same(labels: Tensor, x: Tensor, axis: int) -> Tensor:
    """Where an element is of the class of its label."""
    classes = torch.arange(x.shape[axis], device=x.device)
    return labels.unsqueeze(axis) == classes.view(-1, *(1 for _ in x.shape[axis + 1 :]))
