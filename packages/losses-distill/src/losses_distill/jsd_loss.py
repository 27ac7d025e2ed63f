"""The generalized Jensen-Shannon divergence of language models (Agarwal et al., ICLR 2024, arXiv 2306.13649)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core import BaseLoss, ConfigError, InputError, LossOptions, examples
from losses_core.kernels import definition
from losses_core.utils import checks
from losses_distill._inputs import check_class_dim, check_ignore_index, count_labelled, prepare_masked_logits

__all__ = ["GeneralizedJSDLoss", "generalized_jsd_loss"]


class Terms(NamedTuple):
    """The loss is ``teacher`` · KL(P ‖ M) + ``student`` · KL(S ‖ M) with M = ``share`` · P + ``rest`` · S."""

    teacher: float
    student: float
    share: float
    rest: float


def find_terms(beta: float, skew: float | None) -> Terms:
    """The divergences that ``beta`` and ``skew`` ask for."""
    if beta == 0:
        return Terms(1.0, 0.0, 0.0, 1.0) if skew is None else Terms(1.0, 0.0, skew, 1 - skew)
    if beta == 1:
        return Terms(0.0, 1.0, 1.0, 0.0) if skew is None else Terms(0.0, 1.0, 1 - skew, skew)
    return Terms(beta, 1 - beta, beta, 1 - beta)


def _check_skew(beta: float, skew: float | None, fault: Callable[[str], Exception]) -> None:
    if skew is not None and (beta not in (0, 1) or not 0 < skew < 1):
        raise fault(
            "skew: expected None, or a number in (0, 1) together with beta=0, KL(P ‖ skew·P + (1-skew)·S), or beta=1, "
            f"KL(S ‖ (1-skew)·P + skew·S); got skew={skew!r} with beta={beta!r}."
        )


def _prepare(pred: Tensor, target: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    beta = options["beta"]
    if not 0 <= beta <= 1:
        raise InputError(f"beta: expected a number in [0, 1]; got {beta!r}.")
    _check_skew(beta, options["skew"], InputError)
    return prepare_masked_logits(pred, target, options)


@definition(layout="classes", prepare=_prepare, normalizer=count_labelled, rows=("labels",))
def generalized_jsd_loss(
    pred: Tensor,
    target: Tensor,
    *,
    beta: float = 0.5,
    temperature: float | Tensor = 1.0,
    skew: float | None = None,
    class_dim: int | None = None,
    labels: Tensor | None = None,
    ignore_index: int | None = -100,
    temperature_squared: bool = False,
    teacher_detach: bool = True,
) -> Tensor:
    """Compute the divergence of teacher and student from their mixture, unreduced: see `GeneralizedJSDLoss`.

    Args:
        pred: logits of the student, (N,C,*S) or the classes on ``class_dim``.
        target: logits of the teacher, of the shape of ``pred``.
        beta: share of the teacher in the mixture, in [0, 1]; 0 is KL(teacher ‖ student), 1 KL(student ‖ teacher).
        temperature: T > 0; a 0-d tensor gets a gradient.
        skew: share, in (0, 1), of the first distribution in the mixture that takes the second's place, with ``beta`` 0
            or 1.
        class_dim: axis of the classes; None: axis 1 of 2-, 4- and 5-D logits.
        labels: class indices, of the shape of pred without its class axis; positions of the label ``ignore_index`` are
            ignored.
        ignore_index: see ``labels``; None: nothing is ignored.
        temperature_squared: multiply by T².
        teacher_detach: no gradient reaches ``target``.

    Returns:
        Unreduced: value, of the shape of ``pred`` without its class axis, and normalizer, 0 where ignored.
    """
    if labels is not None and ignore_index is not None:
        ignored = (labels == ignore_index).unsqueeze(1)
        pred, target = pred.masked_fill(ignored, 0), target.masked_fill(ignored, 0)
    log_s, log_p = (F.log_softmax(logits / temperature, 1) for logits in (pred, target))
    terms = find_terms(beta, skew)
    s, p = log_s.exp(), log_p.exp()
    ratio_s, ratio_p = _log_ratios(log_s, log_p, terms)
    # both terms with the difference of M and P, or S: it sums to 0, and rounding of the log_softmax cancels
    correction = (terms.teacher * terms.rest - terms.student * terms.share) * (s - p)
    kl_p, kl_s = p * torch.where(p == 0, 0, ratio_p), s * torch.where(s == 0, 0, ratio_s)
    value = (terms.teacher * kl_p + terms.student * kl_s + correction).sum(1)
    value = value - value.detach().clamp(max=0)
    return value * (temperature * temperature) if temperature_squared else value


def _log_ratios(log_s: Tensor, log_p: Tensor, terms: Terms) -> tuple[Tensor, Tensor]:
    """log(S/M) and log(P/M), each from log(P/S), so that no mixture underflows."""
    absent = (log_s == -torch.inf) & (log_p == -torch.inf)
    log_ratio = (log_p - log_s).masked_fill(absent, 0)
    if terms.share == 0:
        return torch.zeros_like(log_ratio), log_ratio
    if terms.rest == 0:
        return -log_ratio, torch.zeros_like(log_ratio)
    log_share, log_rest = math.log(terms.share), math.log(terms.rest)
    odds = log_ratio + (log_share - log_rest)
    return F.logsigmoid(-odds) - log_rest, F.logsigmoid(odds) - log_share


class GeneralizedJSDLoss(BaseLoss):
    r"""Generalized Jensen-Shannon divergence between the distributions of a teacher and a student.

    With :math:`S = \operatorname{softmax}(z_s/T)` of the student, :math:`P = \operatorname{softmax}(z_t/T)` of the
    teacher and :math:`M = (1-\beta) S + \beta P`, for each sample or position

    .. math::
        l = \beta\, \mathrm{KL}(P \,\|\, M) + (1-\beta)\, \mathrm{KL}(S \,\|\, M), \qquad
        l_{\beta=0} = \mathrm{KL}(P \,\|\, S), \qquad l_{\beta=1} = \mathrm{KL}(S \,\|\, P)

    The two ends are a convention: the formula itself tends to 0 there, and :math:`l/\beta` to
    :math:`\mathrm{KL}(P \,\|\, S)`, so the value jumps.
    With ``skew`` λ the ends are :math:`\mathrm{KL}(P \,\|\, \lambda P + (1-\lambda) S)` and
    :math:`\mathrm{KL}(S \,\|\, (1-\lambda) P + \lambda S)`.

    Use when: a language model learns from a larger one, above all on its own generations, where a divergence that is
    bounded trains more stably than either KL divergence.

    Args:
        beta: β in [0, 1], the share of the teacher in the mixture. Default: 0.5, symmetric and at most ln 2.
        temperature: T > 0. Default: 1. May be given per call, also as a 0-d tensor, which gets a gradient.
        skew: None, or λ in (0, 1) with ``beta`` 0 or 1; DistiLLM has 0.1. Default: None.
        class_dim: axis of the classes. Default: None, axis 1 of 2-, 4- and 5-D logits; 3-D logits need it.
        ignore_index: positions with this label are ignored, where the call gives ``labels=``; None: nothing is.
            Default: -100. May be given per call.
        temperature_squared: multiply by T². Default: False.
        teacher_detach: no gradient reaches the teacher; False for mutual learning. Default: True.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits of the student, (N,C), (N,C,H,W), (N,C,D,H,W); any shape with ``class_dim``, (N,L,V) say.
        - target: logits of the teacher, of the shape of pred.
        - labels: optional, at the call: integer, values in [0,C) or ``ignore_index``; pred without its class axis.
        - weight: of the shape of pred without its class axis, or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` (over the positions not ignored) and ``sum``; the shape of pred without its class axis for
        ``none``.

    Raises:
        InputError: shapes that differ; 3-D logits without ``class_dim``; a temperature that is not positive; a label
            outside the classes.
        ConfigError: an option outside its range; ``skew`` with another ``beta`` than 0 or 1.

    Example:
        >>> import torch
        >>> loss = GeneralizedJSDLoss(class_dim=-1)
        >>> student = torch.tensor([[[1.0, 0.0, 0.0]]], requires_grad=True)
        >>> loss(student, torch.tensor([[[3.0, 0.0, 0.0]]]))
        tensor(0.0775, grad_fn=<...>)

    References:
        Agarwal et al., On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes, ICLR 2024,
        arXiv 2306.13649.
        Ko et al., DistiLLM: Towards Streamlined Distillation for Large Language Models, ICML 2024, arXiv 2402.03898
        (``skew``).

    Notes:
        Equal to TRL's ``generalized_jsd_loss`` with ``labels``; like TRL, Liger and DistiLLM it does not multiply by T²
        (`KnowledgeDistillationLoss` and DistillKit do). DistiLLM's forward form lacks the entropy of the teacher: the
        same gradient, another value. Its logarithm of the mixed probabilities is NaN at a logit gap of 200; this loss
        is exact at gaps of thousands. For the mean over the tokens of several accumulated batches pass their number as
        ``avg_factor``. Saved for backward, beside the two logits, is one tensor of their size and dtype, the gradient.
    """

    function = generalized_jsd_loss
    example = examples.LOGITS
    per_call = ("temperature", "ignore_index")

    def __init__(
        self,
        beta: float = 0.5,
        temperature: float = 1.0,
        skew: float | None = None,
        class_dim: int | None = None,
        ignore_index: int | None = -100,
        temperature_squared: bool = False,
        teacher_detach: bool = True,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.beta = checks.number(self, "beta", beta, low=0, high=1)
        self.temperature = checks.number(self, "temperature", temperature, above=0)
        self.skew = None if skew is None else checks.number(self, "skew", skew, above=0, below=1)
        _check_skew(beta, skew, lambda text: ConfigError(f"{type(self).__name__}: {text}"))
        self.class_dim = check_class_dim(self, class_dim)
        self.ignore_index = check_ignore_index(self, ignore_index)
        self.temperature_squared = checks.flag(self, "temperature_squared", temperature_squared)
        self.teacher_detach = checks.flag(self, "teacher_detach", teacher_detach)
