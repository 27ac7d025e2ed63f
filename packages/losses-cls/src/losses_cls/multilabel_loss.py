"""Multi-label losses that compare the positives of a set with its negatives."""

from __future__ import annotations

import dataclasses
from typing import Any, Unpack

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from losses_cls._targets import ignored_label, prepare_elements
from losses_core import BaseLoss, LossOptions, Unreduced, examples
from losses_core.distributed import all_reduce_sum
from losses_core.errors import ConfigError, InputError
from losses_core.kernels import Prepared, definition
from losses_core.utils import checks
from losses_core.utils.precision import upcast
from losses_core.utils.weight_reduce import Group, Reduction, check_reduction


def _prepare(pred: Tensor, target: Tensor, **options: Any) -> Prepared:
    pred, target, options = prepare_elements(pred, target, **options)
    if pred.ndim < 2:
        raise InputError(f"expected pred of shape (N, C, *S); got {tuple(pred.shape)}.")
    return pred, target, options


def positives_and_negatives(target: Tensor, ignore_index: int | None) -> tuple[Tensor, Tensor]:
    """Masks of the positives (above 0.5) and the negatives of a multi-hot target, without what is ignored."""
    positive = target > 0.5
    if ignore_index is None:
        return positive, ~positive
    valid = target != ignore_index
    return positive & valid, ~positive & valid


def _normalizer(pred: Tensor, target: Tensor, *, ignore_index: int | None) -> Tensor | None:
    return None if ignore_index is None else (target != ignore_index).any(1)


@definition(layout="classes", prepare=_prepare, normalizer=_normalizer)
def zlpr_loss(pred: Tensor, target: Tensor, *, ignore_index: int | None = -100) -> Unreduced:
    """ZLPR loss of each row, unreduced: see `ZLPRLoss`.

    Args:
        pred: logits (N,C,*S).
        target: multi-hot (N,C,*S); an entry above 0.5 is a positive.
        ignore_index: elements of the target equal to it leave the sums; None: none does.

    Returns:
        ``Unreduced``: a value (N,*S), and a normalizer of 1, 0 for a row without a valid element.
    """
    positive, negative = positives_and_negatives(target, ignore_index)
    one = torch.zeros_like(pred[:, :1])  # the logarithm of the 1 in log(1 + Σ)
    of_positives, of_negatives = (
        torch.cat([part.masked_fill(~mask, -torch.inf), one], 1).logsumexp(1)
        for part, mask in ((-pred, positive), (pred, negative))
    )
    return of_negatives + of_positives  # type: ignore[return-value]  # Unreduced, once the normalizer is attached


_REDUCTIONS = ("mean", "sum")
_NO_FACTOR = "avg_factor: the loss is one number for the batch, with no denominator; drop it."


def _prepare_signs(pred: Tensor, target: Tensor, **options: Any) -> Prepared:
    """Bring the target to 1 for a positive, -1 for a negative and 0 where ignored, a byte each."""
    check_reduction(options["reduction"], _REDUCTIONS)
    for name in ("temperature_pos", "temperature_neg"):
        if options[name] <= 0:
            raise InputError(f"{name}: expected a number > 0; got {options[name]}.")
    pred, target, options = _prepare(pred, target, **options)
    signs = (target > 0.5).to(torch.int8).mul_(2).sub_(1)
    if options["ignore_index"] is not None:
        signs = signs.masked_fill(target == options["ignore_index"], 0)
    return pred, signs, options


@definition(layout="whole", prepare=_prepare_signs, cast=False)
def two_way_loss(
    pred: Tensor,
    target: Tensor,
    *,
    temperature_pos: float = 4.0,
    temperature_neg: float = 1.0,
    ignore_index: int | None = -100,
    reduction: str = "mean",
    group: Group | None = None,
) -> Tensor | Unreduced:
    """Two-way loss of a batch: see `TwoWayLoss`.

    Args:
        pred: logits (N,C,*S).
        target: multi-hot (N,C,*S); an entry above 0.5 is a positive.
        temperature_pos: of the soft minimum of the positives > 0.
        temperature_neg: of the soft maximum of the negatives > 0.
        ignore_index: elements of the target equal to it leave all sets; None: none does.
        reduction: ``'mean'``: the mean over the samples plus that over the classes; ``'sum'``: both sums.
        group: ranks whose samples make up the batch; None: this process alone.

    Returns:
        0-d; with ``group`` an Unreduced that is global already.
    """
    x, temperatures = upcast(pred), (temperature_pos, temperature_neg)
    sides = [
        (-x / temperature_pos).masked_fill(target <= 0, -torch.inf),
        (x / temperature_neg).masked_fill(target >= 0, -torch.inf),
    ]
    batch = (0, *range(2, x.ndim))
    samples = torch.stack(hardness(*_exp_sums(sides, (1,), None), temperatures)[:2])
    tops, totals = _exp_sums(sides, batch, group)
    if group is not None:
        sums = all_reduce_sum(torch.cat([totals.flatten(), samples]), group.handle)
        totals, samples = sums[:-2].view_as(totals), sums[-2:]
    classes = torch.stack(hardness(tops, totals, temperatures)[:2])
    parts = torch.stack([samples, classes])
    value = parts[:, 0].sum() if reduction == "sum" else (parts[:, 0] / parts[:, 1].clamp(min=1)).sum()
    return value if group is None else Unreduced(value, already_global=True)


def _exp_sums(sides: list[Tensor], dims: tuple[int, ...], group: Group | None) -> tuple[Tensor, Tensor]:
    """The largest exponent of each set and side, 0 for one without elements, and Σ exp relative to it (2,…)."""
    shape = [1 if axis in dims else size for axis, size in enumerate(sides[0].shape)]
    if sides[0].shape[0] > 0:  # not its truth, which an older compiler takes for a constant
        tops = torch.stack([side.detach().amax(dims, keepdim=True) for side in sides])
    else:
        tops = sides[0].new_full((2, *shape), -torch.inf)
    if group is not None:
        dist.all_reduce(tops, op=dist.ReduceOp.MAX, group=group.handle)
    tops = tops.masked_fill(tops == -torch.inf, 0)
    totals = [(side - top).exp().sum(dims, keepdim=True) for side, top in zip(sides, tops.unbind(), strict=True)]
    return tops, torch.stack(totals)


def hardness(tops: Tensor, totals: Tensor, temperatures: tuple[float, float]) -> tuple[Tensor, Tensor, Tensor]:
    """Σ h over the sets, the number of those with a positive, and dh/d(margin) of each set.

    Args:
        tops: exponents of positives and negatives that the sums are relative to, (2,…).
        totals: Σ exp of both, 0 for a side without elements.
        temperatures: of both.
    """
    positive, negative = (totals > 0).unbind()
    both = positive & negative
    of_positives, of_negatives = (tops + totals.masked_fill(totals == 0, 1).log()).unbind()
    margin = temperatures[0] * of_positives + temperatures[1] * of_negatives
    value = F.softplus(margin).masked_fill(~both, 0)
    return value.sum(), positive.sum().to(value.dtype), torch.sigmoid(margin).masked_fill(~both, 0)


class ZLPRLoss(BaseLoss):
    r"""ZLPR loss: every positive logit above 0 and every negative one below it, by one softmax-like term for each side.

    .. math:: l = \log\Big(1 + \sum_{c \in \text{neg}} e^{x_c}\Big) + \log\Big(1 + \sum_{c \in \text{pos}} e^{-x_c}\Big)

    Use when: multi-label targets with few positives among many classes: unlike binary cross-entropy, the loss does not
    grow with the number of easy negatives. A class is predicted where its logit is above 0.

    Args:
        ignore_index: elements of the target equal to it leave both sums; None: none does. Default: -100. May also be
            given per call.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,C,*S).
        - target: multi-hot of the shape of pred (float, int or bool); an entry above 0.5 is a positive.
        - weight: (N,*S) or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` (Σ l / number of rows that have an element not ignored) and ``sum``, (N,*S) for ``none``.

    Raises:
        InputError: a shape that does not fit; class indices, with a hint; on the CPU, a target outside [0,1] that is
            not ``ignore_index``.

    Example:
        >>> import torch
        >>> loss = ZLPRLoss()
        >>> loss(torch.tensor([[2.0, -1.0, 0.0]]), torch.tensor([[1, 0, 0]]))
        tensor(0.9889)

    References:
        Su et al., ZLPR: A Novel Loss for Multi-label Classification, 2022, arXiv 2208.02955.

    Notes:
        Equals timm's ``ZlprLoss``, which takes (N,C) and has no ``ignore_index``. With one class it is
        `BinaryCrossEntropyLoss`. A row without positives or without negatives has no term for that side.
    """

    function = zlpr_loss
    example = examples.BINARY

    def __init__(self, ignore_index: int | None = -100, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.ignore_index = ignored_label(self, ignore_index)


class TwoWayLoss(BaseLoss):
    r"""Two-way loss: the lowest positive logit against the highest negative one, within each sample and each class.

    .. math::
        h = \operatorname{softplus}\!\Big(T_- \log \sum_{\text{neg}} e^{x / T_-}
        + T_+ \log \sum_{\text{pos}} e^{-x / T_+}\Big), \qquad
        l = \operatorname*{mean}_{\text{samples}} h + \operatorname*{mean}_{\text{classes}} h

    A set is the classes of one sample, or the samples of one class in the batch. Both means are over the sets that have
    a positive; one without a negative has :math:`h = 0`. Positions of ``*S`` are samples.

    Use when: multi-label targets where the ranking matters: of the classes of an image, and of the images of a class
    (mean average precision). Batches should hold several samples of each class.

    Args:
        temperature_pos: T₊ > 0 of the soft minimum of the positives. Default: 4.
        temperature_neg: T₋ > 0 of the soft maximum of the negatives. Default: 1.
        ignore_index: elements of the target equal to it leave all sets; None: none does. Default: -100. May also be
            given per call.
        **options: ``loss_weight``, ``reduction`` (``'mean'`` or ``'sum'``), ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,C,*S).
        - target: multi-hot of the shape of pred (float, int or bool); an entry above 0.5 is a positive.

    Returns:
        0-d: for ``mean`` the mean over the samples plus the mean over the classes, for ``sum`` both sums.

    Raises:
        InputError: a shape that does not fit; class indices, with a hint; ``reduction='none'``, a sample weight or an
            ``avg_factor``, as the loss is one number for the batch; on the CPU, a target outside [0,1] that is not
            ``ignore_index``.
        ConfigError: an option outside its range, ``avg_factor``.

    Example:
        >>> import torch
        >>> loss = TwoWayLoss()
        >>> loss(torch.tensor([[2.0, -1.0], [0.0, 1.0]]), torch.tensor([[1, 0], [0, 1]]))
        tensor(0.3079)

    References:
        Kobayashi, Two-Way Multi-Label Loss, CVPR 2023, pp. 7476-7485.

    Notes:
        Equals timm's ``TwoWayLoss(tp, tn)``, which fills masked entries with -1e4, so that logits below that select
        masked entries, and which selects the valid sets by a boolean mask, which breaks the graph and waits for the
        device. The logits are scores: their sigmoid is no probability. With ``sync_dist`` a class's set holds the
        samples of all ranks.
    """

    coupled = "batch"
    function = two_way_loss
    internal_options = ("group",)
    example = dataclasses.replace(examples.BINARY, path=examples.MASKS.path)  # a set needs more than one element
    reductions = _REDUCTIONS

    def __init__(
        self,
        temperature_pos: float = 4.0,
        temperature_neg: float = 1.0,
        ignore_index: int | None = -100,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        if self.avg_factor is not None:
            raise ConfigError(f"{type(self).__name__}: {_NO_FACTOR}")
        self.temperature_pos = checks.number(self, "temperature_pos", temperature_pos, above=0)
        self.temperature_neg = checks.number(self, "temperature_neg", temperature_neg, above=0)
        self.ignore_index = ignored_label(self, ignore_index)

    def _evaluate_function(
        self,
        pred: Any,
        target: Any,
        weight: Tensor | None,
        reduction: str,
        avg_factor: float | Tensor | None,
        keywords: dict[str, Any],
        scale: float | None,
    ) -> Reduction:
        if weight is not None:
            raise InputError("weight: the loss is one number for the batch, with no value per sample; drop it.")
        if avg_factor is not None:
            raise InputError(_NO_FACTOR)
        keywords = {**keywords, "reduction": reduction}
        return super()._evaluate_function(pred, target, weight, reduction, avg_factor, keywords, scale)

    def _arguments(self, pred: Any, target: Any, options: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
        return pred, target, {**options, "group": Group(self.process_group) if self._synchronises() else None}
