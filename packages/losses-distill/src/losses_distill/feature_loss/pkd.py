"""Distillation by Pearson correlation (Cao et al., NeurIPS 2022, arXiv 2207.02039)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from losses_core import LossOptions, Unreduced
from losses_core.distributed import all_reduce_sum
from losses_core.kernels import definition
from losses_core.utils import checks
from losses_core.utils.weight_reduce import Group, align
from losses_distill._adapter import channel_axis
from losses_distill.feature_loss._base import AdaptedFeatureLoss, prepare


def _elements(pred: Tensor, target: Tensor, **_: Any) -> int:
    return pred.numel()


@definition(layout="whole", prepare=prepare, denominator=_elements)
def pkd_loss(
    pred: Tensor,
    target: Tensor,
    *,
    resize: str | None = None,
    eps: float = 1e-6,
    counted: Tensor | None = None,
    group: Group | None = None,
) -> Tensor | Unreduced:
    """Half the squared difference of standardized channels, element by element: see `PKDLoss`.

    Args:
        pred: features of the student, (N,D), (N,L,C) or (N,C,*S).
        target: features of the teacher, of the shape of ``pred``; other spatial sizes with ``resize``.
        resize: None or ``'min'``, average pooling to the smaller size.
        eps: a channel whose standard deviation is no more than this times its largest magnitude becomes 0, with
            gradient 0.
        counted: mask of the shape of the features: the elements that mean and deviation are taken of; None: all.
        group: ranks whose features make up the batch; None: this process alone.

    Returns:
        The shape of the (pooled) features.
    """
    student, teacher = _standardize(pred, target, eps, counted, group)
    return F.mse_loss(student, teacher, reduction="none") / 2


def _standardize(
    pred: Tensor, target: Tensor, eps: float, counted: Tensor | None, group: Group | None
) -> tuple[Tensor, Tensor]:
    """(x - mean)/std of the channels of both; 0 where nothing varies, and where an element is not counted."""
    axis = channel_axis(pred)
    dims = [dim for dim in range(pred.ndim) if dim != axis]
    shape = [1] * pred.ndim
    shape[axis] = -1
    if counted is None:
        number = torch.full_like(pred[:1].sum(dims), pred.numel() // max(pred.shape[axis], 1)).detach()
    else:
        number = counted.sum(dims).to(pred.dtype)
    both = [_where_counted(x, counted) for x in (pred, target)]
    sums = _all_ranks(torch.stack([*(x.sum(dims) for x in both), number]), group)
    number = sums[2]
    centered = [
        _where_counted(x - mean.reshape(shape), counted)
        for x, mean in zip(both, (sums[:2] / number.clamp(min=1)).unbind(), strict=True)
    ]
    variances = _all_ranks(torch.stack([(x * x).sum(dims) for x in centered]), group) / (number - 1).clamp(min=1)
    magnitudes = _largest_of_ranks(torch.stack([_largest(x.detach(), dims) for x in both]), group)
    flat = is_flat(variances, magnitudes, eps)
    inverse = variances.masked_fill(flat, 1).rsqrt().masked_fill(flat, 0)
    student, teacher = (x * scale.reshape(shape) for x, scale in zip(centered, inverse.unbind(), strict=True))
    return student, teacher


def is_flat(variance: Tensor, magnitude: Tensor, eps: float) -> Tensor:
    """Where a deviation is no more than ``eps`` times the largest magnitude; False for NaN, which shows."""
    limit = eps * magnitude
    return variance <= limit * limit


def _where_counted(x: Tensor, counted: Tensor | None) -> Tensor:
    return x if counted is None else x.masked_fill(~counted, 0)


def _largest(x: Tensor, dims: list[int]) -> Tensor:
    return x.sum(dims) if x.shape[0] == 0 else x.abs().amax(dims)


def _all_ranks(sums: Tensor, group: Group | None) -> Tensor:
    return sums if group is None else all_reduce_sum(sums, group.handle)


def _largest_of_ranks(largest: Tensor, group: Group | None) -> Tensor:
    if group is not None:
        dist.all_reduce(largest, dist.ReduceOp.MAX, group=group.handle)
    return largest


class PKDLoss(AdaptedFeatureLoss):
    r"""Squared difference of standardized channels: one minus their Pearson correlation.

    With :math:`z` the features of a channel, minus their mean and divided by their standard deviation (that of n - 1)
    over the batch and all positions, for each element

    .. math::
        l = \frac{(z_s - z_t)^2}{2}, \qquad
        \operatorname{mean} l = \frac{n-1}{n} \Big( 1 - \frac1C \sum_c \rho(f_{s,c}, f_{t,c}) \Big)

    with :math:`\rho` Pearson's correlation.

    Use when: features of detectors of different kinds are distilled, whose magnitudes differ between the stages, the
    channels and the two networks.

    Args:
        student_channels: channels of pred; given together with ``teacher_channels``. Default: None.
        teacher_channels: channels of target. Where the two differ, the loss holds a learnable adapter. Default: None.
        resize: None, equal spatial sizes are required; ``'min'``, average pooling, per axis to the smaller. Default:
            None.
        eps: a channel whose deviation is no more than this times its largest magnitude becomes 0, with gradient 0.
            Default: 1e-6.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: features of the student, (N,D), tokens (N,L,C), or (N,C,*S) with up to three spatial axes.
        - target: features of the teacher, of the same layout.
        - weight: a mask (N,), (N,L), (N,*S) or (N,1,*S), at the pooled size with ``resize``, or of the shape of the
          loss. Elements of weight 0 do not enter mean and deviation; any other weight multiplies the loss alone.

    Returns:
        0-d for ``mean`` (Σ l / number of elements) and ``sum``; the shape of target, pooled, for ``none``.

    Raises:
        InputError: sizes that differ; the message names the parameter that resolves it.
        ConfigError: an option outside its range; one of the channels without the other.

    Example:
        >>> import torch
        >>> loss = PKDLoss()
        >>> student = torch.tensor([[1.0], [2.0], [3.0]], requires_grad=True)
        >>> loss(student, torch.tensor([[0.0], [0.0], [9.0]]))
        tensor(0.0893, grad_fn=<...>)

    References:
        Cao et al., PKD: General Distillation Framework for Object Detectors via Pearson Correlation Coefficient,
        NeurIPS 2022, arXiv 2207.02039.

    Notes:
        Equal to mmrazor's ``PKDLoss`` up to the 1e-6 that it adds to the deviation. Mean and deviation relate all
        samples of a batch; with ``sync_dist`` they are those of all ranks. Saved for backward, beside the features, is
        one tensor of their size and dtype, the gradient. The adapter is trained only if the optimizer has its
        parameters: build it from ``losses_core.trainable_parameters(model, loss)`` and let
        ``losses_core.check_optimizer(optimizer, loss)`` verify this.
    """

    coupled = "batch"
    function = pkd_loss
    internal_options = ("counted", "group")

    def __init__(
        self,
        student_channels: int | None = None,
        teacher_channels: int | None = None,
        resize: str | None = None,
        eps: float = 1e-6,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(student_channels, teacher_channels, resize, **options)
        self.eps = checks.number(self, "eps", eps, above=0)

    def _evaluate_function(
        self,
        pred: Any,
        target: Any,
        weight: Tensor | None,
        reduction: str,
        avg_factor: float | Tensor | None,
        keywords: dict[str, Any],
        scale: float | None,
    ) -> Any:
        if weight is not None:
            mapped = self._map_weight(checks.tensor("weight", weight), checks.floating(pred), target)
            _, shape = self._shapes(pred, target)
            counted = align(mapped != 0, shape)
            assert counted is not None
            keywords = {**keywords, "counted": counted.expand(shape)}
        return super()._evaluate_function(pred, target, weight, reduction, avg_factor, keywords, scale)

    def _options(self, pred: Tensor, keywords: Mapping[str, Any]) -> dict[str, Any]:
        group = Group(self.process_group) if self._synchronises() else None
        return {**super()._options(pred, keywords), "counted": keywords.get("counted"), "group": group}
