"""Binary cross-entropy per element, of logits or of probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch.nn.functional as F
from torch import Tensor

from losses_cls._targets import element_normalizer, ignored_label, prepare_elements
from losses_core import BaseLoss, LossOptions, Unreduced, examples
from losses_core.kernels import Prepared, definition
from losses_core.utils import checks, stable
from losses_core.utils.focal import along_channels
from losses_core.utils.value_checks import check_probabilities, values_are_checked


def _prepare(pred: Tensor, target: Tensor, **options: Any) -> Prepared:
    pred, target, options = prepare_elements(pred, target, **options)
    if not options["with_logits"] and values_are_checked(pred):
        valid, _, _ = stable.fill_ignored(pred, target, options["ignore_index"])
        check_probabilities(valid, name="pred", cure="Does it hold logits? Then set with_logits=True.")
    return pred, target, options


def _mean(
    pred: Tensor, target: Tensor, *, pos_weight: Any, class_weight: Any, with_logits: bool, ignore_index: int | None
) -> Tensor | None:
    """The mean by torch's own operator, with the reciprocal of the number of valid elements as weight."""
    if pos_weight is not None or class_weight is not None or not with_logits:
        return None
    t = target if target.dtype == pred.dtype else target.to(pred.dtype)
    if ignore_index is None:
        return F.binary_cross_entropy_with_logits(pred, t)
    ignored = target == ignore_index
    valid = ~ignored
    weight = valid / valid.sum(dtype=pred.dtype).clamp(min=1)
    return F.binary_cross_entropy_with_logits(pred.masked_fill(ignored, 0), t, weight, reduction="sum")


@definition(layout="channels", prepare=_prepare, normalizer=element_normalizer, mean=_mean)
def binary_cross_entropy(
    pred: Tensor,
    target: Tensor,
    *,
    pos_weight: Tensor | float | None = None,
    class_weight: Tensor | float | None = None,
    with_logits: bool = True,
    ignore_index: int | None = -100,
) -> Unreduced:
    """Binary cross-entropy of each element, unreduced: see `BinaryCrossEntropyLoss`.

    Args:
        pred: logits, or probabilities with ``with_logits=False``; any shape.
        target: in [0, 1], of the shape of ``pred``, or (N,) for ``pred`` (N,1).
        pos_weight: weight of the positive term: a number, or (C,) along axis 1.
        class_weight: weight of both terms: a number, or (C,) along axis 1.
        with_logits: what ``pred`` holds.
        ignore_index: elements of the target equal to it are ignored; None: none is.

    Returns:
        ``Unreduced``: a value of the shape of ``pred``, and a normalizer of 1, 0 where ignored.
    """
    x, t, ignored = stable.fill_ignored(pred, target.to(pred.dtype), ignore_index)
    formula = stable.binary_cross_entropy if with_logits else stable.probability_cross_entropy
    value = formula(x, t, along_channels(pos_weight, x))
    if class_weight is not None:
        value = value * along_channels(class_weight, x)
    return value if ignored is None else value.masked_fill(ignored, 0)  # type: ignore[return-value]


class BinaryCrossEntropyLoss(BaseLoss):
    r"""Binary cross-entropy of each element, for binary and multi-label targets.

    .. math::
        l = -w_c \left[ v_c\, y \log \sigma(x) + (1-y) \log(1-\sigma(x)) \right]

    with :math:`w` the ``class_weight`` and :math:`v` the ``pos_weight``.

    Use when: each class is a yes/no question of its own (tags, binary masks, objectness).

    Args:
        pos_weight: weight of the positive term, a number or C of them along axis 1. Default: none.
        with_logits: ``pred`` holds logits (True) or probabilities. Default: True.
        class_weight: list or tensor of C weights ≥ 0 along axis 1, on both terms. Default: none.
        ignore_index: elements of the target equal to it are ignored; None: none is. Default: -100. May also be given
            per call.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: any shape; with a list of weights (N,C,*S).
        - target: of the shape of pred, in [0,1] (float, int or bool); or (N,) for pred (N,1).
        - weight: of the shape of pred or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` (Σ l / number of elements not ignored) and ``sum``, the shape of pred for ``none``.

    Raises:
        InputError: a shape that does not fit; class indices, with a hint; on the CPU, a target outside [0,1] that is
            not ``ignore_index``, and with ``with_logits=False`` a pred outside [0,1].

    Example:
        >>> import torch
        >>> loss = BinaryCrossEntropyLoss(pos_weight=2.0)
        >>> loss(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.0]))
        tensor(1.0397)

    References:
        Good, Rational Decisions, Journal of the Royal Statistical Society B 14, 1952 (the logarithmic score).

    Notes:
        Equals ``torch.nn.functional.binary_cross_entropy_with_logits``. With probabilities each log is bounded below by
        -100 as in torch, and the gradient is 0 where it is bounded (torch's reaches 1e12 there); works under autocast.
    """

    function = binary_cross_entropy
    example = examples.BINARY.probabilities_if("with_logits", False)

    def __init__(
        self,
        pos_weight: float | Sequence[float] | Tensor | None = None,
        with_logits: bool = True,
        class_weight: Sequence[float] | Tensor | None = None,
        ignore_index: int | None = -100,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self._set_vector("pos_weight", pos_weight)
        self.with_logits = checks.flag(self, "with_logits", with_logits)
        self._set_vector("class_weight", class_weight)
        self.ignore_index = ignored_label(self, ignore_index)
