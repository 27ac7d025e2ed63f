"""Attention transfer (Zagoruyko and Komodakis, ICLR 2017, arXiv 1612.03928)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core import BaseLoss, InputError, LossOptions, examples
from losses_core.kernels import definition
from losses_core.utils import checks
from losses_distill._adapter import channel_axis
from losses_distill.feature_loss._base import RESIZE, same_size, spatial

MODES = ("code", "paper")
_SMALLEST = 1e-30
"""Of the largest element of a map; its inverse is finite, so that the gradient of a map of zeros is 0 and not NaN."""


def power_of_magnitude(x: Tensor, p: float) -> Tensor:
    """|x|^p, with gradient 0 where x is 0 for every p > 0."""
    if p == 2:
        return x * x
    magnitude = x.abs()
    if p == 1:
        return magnitude
    zero = magnitude < torch.finfo(x.dtype).tiny
    return magnitude.masked_fill(zero, 1).pow(p).masked_fill(zero, 0)


@definition(layout="channels", rows=("scale",))
def power_sums(pred: Tensor, target: tuple[()] = (), *, p: float, scale: Tensor | None = None) -> Tensor:
    """Σ_c |A_c / scale|^p of features (N,L,C) at each location, (N,1,L); there is no target."""
    scaled = pred if scale is None else pred / scale
    return power_of_magnitude(scaled.mT, p).sum(1, keepdim=True)


def _prepare(pred: Any, target: Any, **options: Any) -> tuple[Any, Any, dict[str, Any]]:
    if options["mode"] not in MODES:
        raise InputError(f"mode: expected one of {', '.join(map(repr, MODES))}; got {options['mode']!r}.")
    several = isinstance(pred, (list, tuple))
    students = list(pred) if several else [pred]
    teachers = list(target) if isinstance(target, (list, tuple)) else [target]
    if len(students) != len(teachers) or not students:
        raise InputError(f"expected as many stages in target as in pred, {len(students)}; got {len(teachers)}.")
    stages = [same_size(*stage, options["resize"]) for stage in zip(students, teachers, strict=True)]
    for student, _ in stages:
        if student.ndim < 3:
            raise InputError(f"expected features with locations, (N, C, *S) or (N, L, C); got {tuple(student.shape)}.")
    if not several:
        return *stages[0], options
    return [student for student, _ in stages], [teacher for _, teacher in stages], options


@definition(layout="batch", prepare=_prepare, cast=False)
def attention_loss(
    pred: Tensor | Sequence[Tensor],
    target: Tensor | Sequence[Tensor],
    *,
    p: float = 2,
    normalize: bool = True,
    mode: str = "code",
    resize: str | None = "min",
) -> Tensor:
    """Difference between attention maps: see `AttentionLoss`.

    Args:
        pred: features of the student, (N,C,*S) or (N,L,C), or a list of stages.
        target: features of the teacher; the channels may differ.
        p: power > 0.
        normalize: scale the map of each sample to length 1.
        mode: ``'code'``, squared difference of each location, or ``'paper'``, p-norm of the difference of a sample.
        resize: None or ``'min'``, average pooling to the smaller size.

    Returns:
        ``'code'``: (N,*S), or (N,L) of tokens. ``'paper'``: (N,). Of a list of stages (N,): the sum over the stages,
        each with the mean over its locations in ``'code'``.
    """
    if isinstance(pred, Tensor) and isinstance(target, Tensor):
        value = _stage(pred, target, p, normalize, mode)
        return value.unflatten(1, spatial(pred)) if mode == "code" else value
    stages = [_stage(student, teacher, p, normalize, mode) for student, teacher in zip(pred, target, strict=True)]
    return torch.stack([value.mean(1) if mode == "code" else value for value in stages]).sum(0)


def _stage(student: Tensor, teacher: Tensor, p: float, normalize: bool, mode: str) -> Tensor:
    """(N, locations) or, in ``'paper'``, (N,)."""
    ours, theirs = _map(student, p, normalize), _map(teacher, p, normalize)
    theirs = theirs.to(ours.dtype)
    if mode == "code":
        return F.mse_loss(ours, theirs, reduction="none")
    return _p_norm(ours - theirs, float(p))  # torch 2.6 compiles no gradient of a whole power that may vary


def _map(features: Tensor, p: float, normalize: bool) -> Tensor:
    """(N, locations): the mean over channels of |A|^p, scaled to length 1 if asked for."""
    rows = features if features.ndim == 3 else features.flatten(2).mT
    scale = None
    if normalize and p > 2:
        # a map of length 1 does not change with the scale of A, which may be too large or small for the power
        scale = torch.linalg.vector_norm(rows.detach(), torch.inf, dim=(1, 2), keepdim=True)
        scale = scale.masked_fill(scale == 0, 1)
    attention = power_sums(rows, (), p=p, scale=scale).squeeze(1)
    if not normalize:
        return attention / features.shape[channel_axis(features)]
    top = attention.detach().amax(1, keepdim=True).clamp(min=_SMALLEST)
    # the largest element is 1 then, so that only a map of zeros is shorter than eps
    return F.normalize(attention / top, eps=0.5)


def _p_norm(x: Tensor, p: float) -> Tensor:
    """(Σ |x|^p)^(1/p) of each row; 0 with gradient 0 where the row is 0."""
    top = x.detach().abs().amax(1, keepdim=True)
    zero = top == 0
    total = power_of_magnitude(x / top.masked_fill(zero, 1), p).sum(1, keepdim=True)
    return (total.masked_fill(zero, 1).pow(1 / p) * top).squeeze(1)


class AttentionLoss(BaseLoss):
    r"""Difference between the spatial attention maps of a student and of a teacher.

    .. math::
        Q = \operatorname{mean}_c |A_c|^p, \qquad \hat Q = Q / \lVert Q \rVert_2 \text{ per sample}

    .. math::
        l_\text{code} = (\hat Q_s - \hat Q_t)^2 \text{ per location}, \qquad
        l_\text{paper} = \lVert \hat Q_s - \hat Q_t \rVert_p \text{ per sample}

    Of lists of stages it is the sum over the stages per sample, in ``'code'`` of the means over their locations.

    Use when: the student should attend where the teacher does. The numbers of channels need not be equal, and there
    are no learnable parameters.

    Args:
        p: power > 0; the larger, the more the strongest activations dominate. Default: 2.
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
        0-d for ``mean`` (``'code'``: over N and the locations; ``'paper'``: over N) and ``sum``. For ``none`` (N,*S),
        or (N,L) of tokens; (N,) in ``'paper'`` and of lists.

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
        The published weight β = 1000 belongs to ``mode='code'``, whose mean is over the locations of all samples.
        The gradient is finite for every p > 0: 0 where an activation is 0.
    """

    coupled = "image"
    function = attention_loss
    pred_may_be_list = True
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
        samples = (pred[0] if isinstance(pred, (list, tuple)) else pred).shape[:1]
        checks.shape("weight", weight, samples, reference="one number per sample")
        return weight
