"""Online hard example mining over pixels (Shrivastava et al., CVPR 2016, arXiv 1604.03540)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from torch import Tensor

from losses_core import BaseLoss, LossOptions, Unreduced, examples
from losses_core.errors import InputError
from losses_core.utils import checks, host
from losses_core.utils.deferred import Deferred
from losses_core.utils.precision import full_precision
from losses_core.utils.weight_reduce import Reduction
from losses_seg._activation import log_probabilities
from losses_seg._mining import HardBinary, HardLabels, Rule, hardest, kept, rule
from losses_seg._mining_host import HardPixels, hard_binary, hard_labels, traced_binary, traced_labels
from losses_seg._ranks import Ranks
from losses_seg._targets import hide, over, read_form, read_target


@full_precision
def ohem_cross_entropy_loss(
    pred: Tensor,
    target: Tensor,
    *,
    thresh: float | None = 0.7,
    min_kept: int | float = 100000,
    ignore_index: int = 255,
    class_weight: Tensor | None = None,
    skip: Tensor | None = None,
    ranks: Ranks | None = None,
) -> Unreduced:
    """Cross-entropy of the hard pixels, unreduced: see `OHEMCrossEntropyLoss`.

    Args:
        pred: logits (N,C,*S).
        target: class indices (N,*S) or (N,1,*S), or probabilities (N,C,*S).
        thresh: a pixel is hard whose true class has a probability below it, in (0,1]; None: the hardest alone.
        min_kept: keep the hardest K if fewer are hard: K itself ≥ 1, or their part in (0,1].
        ignore_index: label whose pixels are left out.
        class_weight: (C,); mining looks at the loss without it.
        skip: bool (N,*S), true where a pixel is left out as well.
        ranks: the processes that hold the batch together, where it is spread (set by the class under ``sync_dist``).

    Returns:
        (N,*S), 0 where not kept; as normalizer, the weight of the label where kept.
    """
    found = _hard_labels(pred, target, rule(thresh, min_kept, ranks), ignore_index, class_weight, skip)
    return found if isinstance(found, Unreduced) else found.unreduced()


def _hard_labels(
    pred: Tensor, target: Tensor, rules: Rule, ignore_index: int, class_weight: Tensor | None, skip: Tensor | None
) -> Unreduced | HardPixels:
    if pred.ndim < 2 or pred.shape[1] < 2:
        raise InputError(
            f"expected pred of shape (N, C, *S) with two or more classes; got {tuple(pred.shape)}. "
            "One channel goes to OHEMBinaryLoss."
        )
    if pred.ndim > 2:
        return _of_pixels(pred, target, rules, ignore_index, class_weight, skip)
    n = pred.shape[0]
    shapes = (n,), (n, 1), tuple(pred.shape)
    checks.shape("target", checks.tensor("target", target), *shapes, reference=f"pred {tuple(pred.shape)}")
    skip = None if skip is None else skip.unsqueeze(-1)
    target = target if target.shape == (n, 1) else target.unsqueeze(-1)
    found = _of_pixels(pred.unsqueeze(-1), target, rules, ignore_index, class_weight, skip)
    value, normalizer, _ = found if isinstance(found, Unreduced) else found.unreduced()
    return Unreduced(value.squeeze(-1), None if normalizer is None else normalizer.squeeze(-1))


def _of_pixels(
    pred: Tensor, target: Tensor, rules: Rule, ignore_index: int, class_weight: Tensor | None, skip: Tensor | None
) -> Unreduced | HardPixels:
    values, index = read_form(pred, target)
    if index and rules.ranks is None and pred.numel() and host.on_host(pred, values):
        return HardPixels(pred, hard_labels(pred, values, skip, class_weight, ignore_index, rules))
    if index and rules.ranks is None and host.compiling_for_host(pred, values):
        return traced_labels(pred, values, skip, class_weight, ignore_index, rules)
    goal = read_target(pred, target, ignore_index, "softmax")
    left_out = goal.ignored
    if skip is not None:
        left_out = skip.unsqueeze(1) if left_out is None else left_out | skip.unsqueeze(1)
    log_p = log_probabilities(pred, left_out)
    if goal.index:
        value, normalizer, _ = HardLabels.apply(log_p, goal.values, skip, class_weight, ignore_index, rules)
        return Unreduced(value, normalizer)
    q = hide(goal.values.to(pred.dtype), left_out)
    # 0 · log 0 is 0: a class that a logit of -inf rules out costs nothing where it has no probability
    terms = -(q * log_p).masked_fill(q == 0, 0)
    loss = terms.detach().sum(1)
    valid = torch.ones_like(loss, dtype=torch.bool) if left_out is None else ~left_out.squeeze(1)
    hard = kept(loss, valid, hardest(loss, valid, rules), rules.floor)
    if class_weight is not None:
        terms = terms * over(class_weight.unsqueeze(0), pred)
    return Unreduced(terms.sum(1).where(hard, 0), hard)


@full_precision
def ohem_binary_loss(
    pred: Tensor,
    target: Tensor,
    *,
    thresh: float | None = 0.7,
    min_kept: int | float = 100000,
    ignore_index: int = 255,
    skip: Tensor | None = None,
    ranks: Ranks | None = None,
) -> Unreduced:
    """Binary cross-entropy of the hard elements, unreduced: see `OHEMBinaryLoss`.

    Args:
        pred: logits (N,1,*S), (N,*S), or (N,C,*S) of several labels.
        target: 0, 1 or ``ignore_index``, or soft, of the shape of ``pred``; (N,*S) for ``pred`` (N,1,*S).
        thresh: an element is hard whose true class has a probability below it, in (0,1]; None: the hardest alone.
        min_kept: keep the hardest K if fewer are hard: K itself ≥ 1, or their part in (0,1].
        ignore_index: value whose elements are left out.
        skip: bool of the shape of the result, true where an element is left out as well.
        ranks: the processes that hold the batch together, where it is spread (set by the class under ``sync_dist``).

    Returns:
        (N,*S), or (N,C,*S) for several labels, 0 where not kept; as normalizer, whether it is kept.
    """
    found = _hard_binary(pred, target, rule(thresh, min_kept, ranks), ignore_index, skip)
    return found if isinstance(found, Unreduced) else found.unreduced()


def _hard_binary(
    pred: Tensor, target: Tensor, rules: Rule, ignore_index: int, skip: Tensor | None
) -> Unreduced | HardPixels:
    shape = binary_shape(pred)
    target = checks.tensor("target", target)
    checks.shape("target", target, tuple(pred.shape), shape, reference=f"pred {tuple(pred.shape)}")
    pred, target = pred.reshape(shape), target.reshape(shape)
    if rules.ranks is None and pred.numel() and host.on_host(pred, target):
        found = hard_binary(pred, target, skip, ignore_index, rules)
        if found is not None:
            return HardPixels(pred, found)
    if rules.ranks is None and host.compiling_for_host(pred, target) and not target.requires_grad:
        return traced_binary(pred, target, skip, ignore_index, rules)
    value, hard, _ = HardBinary.apply(pred, target, skip, ignore_index, rules)
    return Unreduced(value, hard)


def binary_shape(pred: Tensor) -> tuple[int, ...]:
    """The shape of the loss: that of ``pred`` without a single channel."""
    n, *rest = pred.shape
    return (n, *rest[1:]) if rest[:1] == [1] else (n, *rest)


class _Mining(BaseLoss):
    """What both losses share: parameters, and pixels of weight zero, which are not mined."""

    def __init__(
        self, thresh: float | None, min_kept: int | float, ignore_index: int, **options: Unpack[LossOptions]
    ) -> None:
        super().__init__(**options)
        self.thresh = None if thresh is None else checks.number(self, "thresh", thresh, above=0, high=1)
        if isinstance(min_kept, float):
            self.min_kept = checks.number(self, "min_kept", min_kept, above=0, high=1)
        else:
            self.min_kept = checks.number(self, "min_kept", min_kept, low=1, integer=True)
        self.ignore_index = checks.number(self, "ignore_index", ignore_index, integer=True)

    def _evaluate(self, pred: Any, target: Any, weight: Tensor | None = None, *args: Any, **kwargs: Any) -> Reduction:
        # a pixel of weight zero must not decide which others are kept, so the weight travels on with the target
        given = target if weight is None else (target, weight)
        return super()._evaluate(pred, given, weight, *args, **kwargs)

    def _rule(self) -> Rule:
        return rule(self.thresh, self.min_kept, Ranks(self.process_group) if self._synchronises() else None)

    def _split(self, pred: Tensor, target: Any) -> tuple[Tensor, Tensor | None]:
        """The target, and where the weight is zero, of the shape of the loss."""
        if not isinstance(target, tuple):
            return target, None
        target, weight = target
        return target, self._map_weight(weight, pred, target) == 0


class OHEMCrossEntropyLoss(_Mining):
    r"""Cross-entropy of the hard pixels: those whose true class is not likely yet, and at least K of them.

    .. math::
        l_i = -\log p_{y_i}, \qquad
        H = \{ i : l_i > -\log t \} \ \text{ if that are at least } K, \text{ else } \{ i : l_i \ge l_{(K)} \}, \qquad
        \text{mean} = \frac{\sum_{i \in H} w_{y_i} l_i}{\sum_{i \in H} w_{y_i}}

    with :math:`l_{(K)}` the K-th largest loss of the batch, ties kept.

    Use when: few hard pixels drown in many easy ones: street scenes, thin structures.

    Args:
        thresh: t, the probability of the true class below which a pixel is hard, in (0,1]; None: the K hardest alone.
            Default: 0.7.
        min_kept: K, an int ≥ 1, or a float in (0,1] for that part of the pixels that are not ignored. With fewer than K
            pixels in a call nothing is mined. Default: 100000.
        ignore_index: label whose pixels are left out and get no gradient. Default: 255. May also be given per call.
        class_weight: list or tensor of C weights ≥ 0; mining looks at the loss without it. Default: none.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,C,*S), C ≥ 2; (N,C) as well.
        - target: integer (N,*S) or (N,1,*S), in [0,C) or ``ignore_index``; or probabilities (N,C,*S).
        - weight: (N,) or (N,*S). A pixel of weight zero is not mined.

    Returns:
        0-d for ``mean`` (the denominator of cross-entropy over the kept pixels) and ``sum``, (N,*S) for ``none``.

    Raises:
        InputError: a shape or a dtype that does not fit.
        ConfigError: an option outside its range.
        RuntimeError: on the CPU, a label outside [0,C) that is not ``ignore_index``.

    Example:
        >>> import torch
        >>> loss = OHEMCrossEntropyLoss(thresh=0.7, min_kept=1, reduction="none")
        >>> loss(torch.tensor([[3.0, 0.0], [0.5, 0.0], [0.0, 2.0]]), torch.tensor([0, 0, 0]))
        tensor([0.0000, 0.4741, 2.1269])

    References:
        Shrivastava et al., Training Region-based Object Detectors with Online Hard Example Mining, CVPR 2016,
        arXiv 1604.03540.

    Notes:
        When everything is kept it equals ``CrossEntropyLoss``. The K-th largest loss is found with static shapes and
        masks, where well-known implementations index by a mask and give NaN for an empty one.
    """

    example = examples.PIXELS
    class_axis = 1

    def __init__(
        self,
        thresh: float | None = 0.7,
        min_kept: int | float = 100000,
        ignore_index: int = 255,
        class_weight: Sequence[float] | Tensor | None = None,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(thresh, min_kept, ignore_index, **options)
        self._set_vector("class_weight", class_weight)

    def _map_weight(self, weight: Tensor, pred: Tensor, target: Any) -> Tensor:
        n, _, *spatial = pred.shape
        checks.shape("weight", weight, (n,), (n, *spatial), (n, 1, *spatial), reference=f"pred {tuple(pred.shape)}")
        if weight.shape == (n,):
            return weight.reshape(n, *(1 for _ in spatial)).expand(n, *spatial)
        return weight.reshape(n, *spatial)

    def _forward(self, pred: Tensor, target: Any, *, ignore_index: int) -> Unreduced | Deferred:
        target, skip = self._split(pred, target)
        weight = self._vector("class_weight", pred, pred.shape[1])
        return _hard_labels(pred, target, self._rule(), ignore_index, weight, skip)


class OHEMBinaryLoss(_Mining):
    r"""Binary cross-entropy of the hard elements: those whose truth is not likely yet, and at least K of them.

    .. math::
        l_i = -\left[ y_i \log \sigma(x_i) + (1-y_i) \log(1-\sigma(x_i)) \right], \qquad
        H = \{ i : l_i > -\log t \} \ \text{ if that are at least } K, \text{ else } \{ i : l_i \ge l_{(K)} \}

    with :math:`l_{(K)}` the K-th largest loss of the batch, ties kept; mean: :math:`\sum_H l_i / |H|`.

    Use when: one structure against the rest, or several labels per pixel, with few hard pixels among many easy ones.

    Args:
        thresh: t, the probability of the truth below which an element is hard, in (0,1]; None: the K hardest alone.
            Default: 0.7.
        min_kept: K, an int ≥ 1, or a float in (0,1] for that part of the elements that are not ignored. With fewer than
            K elements in a call nothing is mined. Default: 100000.
        ignore_index: value whose elements are left out and get no gradient. Default: 255. May also be given per call.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,1,*S), (N,*S), or (N,C,*S) for several labels.
        - target: of the shape of pred, or (N,*S) for pred (N,1,*S): 0, 1 and ``ignore_index``, or soft.
        - weight: (N,), (N,*S), or of the shape of pred. An element of weight zero is not mined.

    Returns:
        0-d for ``mean`` (over the kept elements) and ``sum``; for ``none`` (N,*S), or (N,C,*S) for several labels.

    Raises:
        InputError: a shape that does not fit.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = OHEMBinaryLoss(min_kept=1, reduction="none")
        >>> loss(torch.tensor([[3.0, 0.5, -2.0]]), torch.tensor([[1, 1, 1]]))
        tensor([[0.0000, 0.4741, 2.1269]])

    References:
        Shrivastava et al., Training Region-based Object Detectors with Online Hard Example Mining, CVPR 2016,
        arXiv 1604.03540.

    Notes:
        When everything is kept it equals ``BinaryCrossEntropyLoss``.
    """

    example = examples.MASKS

    def __init__(
        self,
        thresh: float | None = 0.7,
        min_kept: int | float = 100000,
        ignore_index: int = 255,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(thresh, min_kept, ignore_index, **options)

    def _map_weight(self, weight: Tensor, pred: Tensor, target: Any) -> Tensor:
        shape = binary_shape(pred)
        n, *rest = shape
        pixels = (n, *rest[1:])
        checks.shape("weight", weight, (n,), pixels, shape, tuple(pred.shape), reference=f"pred {tuple(pred.shape)}")
        if weight.shape in (shape, pred.shape):
            return weight.reshape(shape)
        if weight.shape == (n,):
            return weight.reshape(n, *(1 for _ in rest)).expand(shape)
        return weight.unsqueeze(1).expand(shape)

    def _on_pred(self, weight: Tensor, pred: Tensor) -> Tensor:
        return weight.reshape(pred.shape)

    def _forward(self, pred: Tensor, target: Any, *, ignore_index: int) -> Unreduced | Deferred:
        target, skip = self._split(pred, target)
        return _hard_binary(pred, target, self._rule(), ignore_index, skip)
