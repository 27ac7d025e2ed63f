"""Attention transfer (Zagoruyko and Komodakis, ICLR 2017, arXiv 1612.03928)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from torch import Tensor

from losses_core import BaseLoss, InputError, LossOptions, examples
from losses_core.utils import checks, host
from losses_core.utils.autograd import Function
from losses_core.utils.precision import full_precision
from losses_core.utils.summed import Summed
from losses_distill._adapter import channel_axis
from losses_distill._inputs import teacher_of
from losses_distill._norm import unit
from losses_distill.feature_loss._attention_host import summed_attention
from losses_distill.feature_loss._base import RESIZE, pooled, pooled_sizes

MODES = ("code", "paper")


@full_precision
def attention_loss(
    pred: Tensor | Sequence[Tensor],
    target: Tensor | Sequence[Tensor],
    *,
    p: float = 2,
    normalize: bool = True,
    mode: str = "code",
    resize: str | None = "min",
) -> Tensor:
    """Difference between attention maps, per sample: see `AttentionLoss`.

    Args:
        pred: features of the student, (N,C,*S) or (N,L,C), or a list of stages.
        target: features of the teacher; the channels may differ.
        p: power > 0.
        normalize: scale the map of each sample to length 1.
        mode: ``'code'``, mean squared difference, or ``'paper'``, p-norm of the difference.
        resize: None or ``'min'``, average pooling to the smaller size.

    Returns:
        (N,), the sum over stages.
    """
    if mode not in MODES:
        raise InputError(f"mode: expected one of {', '.join(map(repr, MODES))}; got {mode!r}.")
    values = [_stage(s, t, p, normalize, mode, resize) for s, t in _stages(pred, target)]
    return torch.stack(values).sum(0) if len(values) > 1 else values[0]


def _stages(pred: Any, target: Any) -> list[tuple[Tensor, Tensor]]:
    students = list(pred) if isinstance(pred, list | tuple) else [pred]
    teachers = list(target) if isinstance(target, list | tuple) else [target]
    if len(students) != len(teachers) or not students:
        raise InputError(f"expected as many stages in target as in pred, {len(students)}; got {len(teachers)}.")
    return list(zip(students, teachers, strict=True))


def _stage(student: Any, teacher: Any, p: float, normalize: bool, mode: str, resize: str | None) -> Tensor:
    ours, theirs = (_map(x, p, normalize) for x in _sized(student, teacher, resize))
    difference = ours - theirs
    if mode == "code":
        return (difference * difference).mean(1)
    return _p_norm(difference, p)


def _sized(student: Any, teacher: Any, resize: str | None) -> tuple[Tensor, Tensor]:
    """The features of a stage, pooled to one size."""
    student = checks.tensor("pred", student)
    teacher = teacher_of(teacher, student)
    sizes = pooled_sizes(student, teacher, resize)
    if student.ndim < 3:
        raise InputError(f"expected features with locations, (N, C, *S) or (N, L, C); got {tuple(student.shape)}.")
    return pooled(student, sizes), pooled(teacher, sizes)


def _map(features: Tensor, p: float, normalize: bool) -> Tensor:
    """(N, locations): the mean over channels of |A|^p, scaled to length 1 if asked for."""
    if normalize and p > 2:
        # a map scaled to length 1 does not change with the scale of A, which may be too large or small for the power
        top = features.detach().abs().flatten(1).amax(1).reshape(-1, *(1 for _ in features.shape[1:]))
        features = features / torch.where(top == 0, 1, top)
    attention = _MeanPower.apply(features, p, channel_axis(features)).flatten(1)
    if not normalize:
        return attention  # type: ignore[no-any-return]
    top = attention.detach().amax(1, keepdim=True)
    return unit(attention / torch.where(top == 0, 1, top))


class _MeanPower(Function):
    """mean |A|^p along ``dim``. Keeps A; its gradient is 0 where A is, for every p."""

    @staticmethod
    def forward(a: Tensor, p: float, dim: int) -> Tensor:
        return (a * a if p == 2 else a.abs() if p == 1 else a.abs().pow(p)).mean(dim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float, int], output: Tensor) -> None:
        a, ctx.p, ctx.dim = inputs
        ctx.save_for_backward(a)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (a,) = ctx.saved_tensors
        grad = (grad * (ctx.p / a.shape[ctx.dim])).unsqueeze(ctx.dim)
        if ctx.p == 2:
            return a * grad, None, None
        # sign(0) = 0 meets a finite power, also where p < 1
        power = a.abs().clamp(min=torch.finfo(a.dtype).tiny).pow(ctx.p - 1)
        return a.sign() * power * grad, None, None


def _p_norm(x: Tensor, p: float) -> Tensor:
    """(Σ |x|^p)^(1/p) of each row; 0 with gradient 0 where the row is 0."""
    top = x.detach().abs().amax(1, keepdim=True)
    zero = top == 0
    top = torch.where(zero, 1, top)
    total = _MeanPower.apply(x / top, p, 1).unsqueeze(1) * x.shape[1]
    norm = torch.where(zero, 1, total).pow(1 / p) * top
    return torch.where(zero, 0, norm).squeeze(1)


class AttentionLoss(BaseLoss):
    r"""Difference between the spatial attention maps of a student and of a teacher.

    .. math::
        Q = \operatorname{mean}_c |A_c|^p, \qquad \hat Q = Q / \lVert Q \rVert_2 \text{ per sample}, \qquad
        l_\text{code} = \operatorname{mean}_{hw} (\hat Q_s - \hat Q_t)^2, \qquad
        l_\text{paper} = \lVert \hat Q_s - \hat Q_t \rVert_p

    per sample, summed over the stages where lists are given.

    Use when: the student should look where the teacher looks; the numbers of channels need not be equal, and nothing is
    learned.

    Args:
        p: power > 0; the larger, the more the strongest activations rule. Default: 2.
        normalize: scale the map of each sample to length 1. Default: True.
        mode: ``'code'``, the authors' code, or ``'paper'``. Default: ``'code'``.
        resize: ``'min'`` pools the features, per axis to the smaller size, before the map; None requires equal sizes.
            Default: ``'min'``.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: features of the student, (N,C,*S) or tokens (N,L,C), or a list of them, one per stage.
        - target: features of the teacher, as many stages; the channels may differ.
        - weight: (N,).

    Returns:
        0-d for ``mean`` (over N) and ``sum``; (N,) for ``none``.

    Raises:
        InputError: batches, numbers of stages, or (without ``resize``) spatial sizes that differ.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = AttentionLoss()
        >>> student = torch.tensor([[[[1.0, 0.0]]]], requires_grad=True)
        >>> loss(student, torch.tensor([[[[0.0, 2.0]], [[0.0, 1.0]]]]))
        tensor(1., grad_fn=<...>)

    References:
        Zagoruyko, Komodakis, Paying More Attention to Attention: Improving the Performance of Convolutional Neural
        Networks via Attention Transfer, ICLR 2017, arXiv 1612.03928.

    Notes:
        The published weight β = 1000 belongs to ``mode='code'``, whose mean divides by the elements of map and batch.
        The gradient is finite for every p > 0: 0 where an activation is 0.
    """

    example = examples.FEATURES

    def __init__(
        self,
        p: float = 2,
        normalize: bool = True,
        mode: str = "code",
        resize: str | None = "min",
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.p = checks.number(self, "p", p, above=0)
        self.normalize = checks.flag(self, "normalize", normalize)
        self.mode = checks.choice(self, "mode", mode, MODES)
        self.resize = checks.choice(self, "resize", resize, RESIZE)

    def _map_weight(self, weight: Tensor, pred: Any, target: Any) -> Tensor:
        if weight.ndim > 1:
            raise InputError(f"expected weight of shape (N,), one per sample; got {tuple(weight.shape)}.")
        return weight

    def _forward(self, pred: Tensor | Sequence[Tensor], target: Tensor | Sequence[Tensor]) -> Tensor | Summed:
        def elements() -> Tensor:
            return attention_loss(pred, target, p=self.p, normalize=self.normalize, mode=self.mode, resize=self.resize)

        if self.p != 2 or not self.normalize or self.mode != "code":
            return elements()
        stages = [_sized(*stage, self.resize) for stage in _stages(pred, target)]
        if not all(host.on_host(*stage) for stage in stages):
            return elements()

        def times(scale: float) -> Tensor:
            totals = [summed_attention(s, t, channel_axis(s), scale) for s, t in stages]
            return torch.stack(totals).sum() if len(totals) > 1 else totals[0]

        return Summed(stages[0][0], elements, times, stages[0][0].shape[0])
