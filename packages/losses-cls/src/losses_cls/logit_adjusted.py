"""Cross-entropy of logits that are adjusted by the class frequencies (Menon et al., ICLR 2021, arXiv 2007.07314)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from torch import Tensor

from losses_cls._targets import check_lengths, class_normalizer, ignored_label, prepare_classes
from losses_cls.cross_entropy.softmax import cross_entropy, negative_expectation
from losses_core import BaseLoss, LossOptions, Unreduced, examples
from losses_core.errors import ConfigError, InputError
from losses_core.kernels import Prepared, definition, delegate
from losses_core.utils import checks
from losses_core.utils.focal import along_channels

__all__ = ["LogitAdjustedCrossEntropyLoss", "logit_adjusted_cross_entropy_loss", "logit_adjustment"]


def logit_adjustment(class_counts: Sequence[float] | Tensor, tau: float = 1.0) -> Tensor:
    """τ log π of each class in float64, less that of the rarest class, which does not change a softmax.

    Args:
        class_counts: C numbers ≥ 0, of which one is positive; 0 counts as the smallest positive one.
        tau: factor ≥ 0.

    Returns:
        (C,), ≥ 0.

    Raises:
        InputError: no positive count.

    Example:
        >>> logit_adjustment([100, 10, 0])
        tensor([2.3026, 0.0000, 0.0000], dtype=torch.float64)
    """
    counts = (
        class_counts.detach() if isinstance(class_counts, Tensor) else torch.tensor([float(n) for n in class_counts])
    )
    counts = counts.to("cpu", torch.float64)
    present = counts > 0
    if not bool(present.any()):
        raise InputError(f"class_counts: expected a positive number among them; got {class_counts}.")
    logs = counts.masked_fill(~present, torch.inf).log()
    lowest = logs.min()
    return tau * (torch.where(present, logs, lowest) - lowest)


def _prepare(pred: Tensor, target: Tensor, **options: Any) -> Prepared:
    adjustment = options.pop("adjustment")
    pred, target, options = prepare_classes(pred, target, **options)
    check_lengths(pred, {"adjustment": adjustment})
    return pred, target, {**options, "adjustment": adjustment.detach()}


@definition(layout="classes", prepare=_prepare, normalizer=class_normalizer)
def adjusted_cross_entropy(
    pred: Tensor,
    target: Tensor,
    *,
    adjustment: Tensor,
    class_weight: Tensor | None,
    ignore_index: int | None,
    label_smoothing: float,
) -> Unreduced:
    """`cross_entropy` of logits plus a constant per class."""
    adjusted = pred + along_channels(adjustment, pred)
    return negative_expectation(adjusted, target, class_weight, ignore_index, label_smoothing)  # type: ignore[return-value]


@definition(delegates=True)
def logit_adjusted_cross_entropy_loss(
    pred: Tensor,
    target: Tensor,
    *,
    adjustment: Tensor | None = None,
    class_weight: Tensor | None = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
) -> Unreduced:
    """Cross-entropy of adjusted logits, unreduced: see `LogitAdjustedCrossEntropyLoss`.

    Args:
        pred: logits (N,C,*S).
        target: class indices (N,*S), or probabilities (N,C,*S).
        adjustment: (C,), is added to the logits, and gets no gradient: `logit_adjustment(class_counts, tau)`. None:
            cross-entropy.
        class_weight: (C,).
        ignore_index: label that is ignored; None: none is. For class indices only.
        label_smoothing: in [0, 1].

    Returns:
        ``Unreduced``: a value (N,*S), and as normalizer the class weight of each label, 0 where ignored.
    """
    options = {"class_weight": class_weight, "ignore_index": ignore_index, "label_smoothing": label_smoothing}
    if adjustment is None:
        return delegate(cross_entropy, pred, target, **options)
    return delegate(adjusted_cross_entropy, pred, target, adjustment=adjustment, **options)


class LogitAdjustedCrossEntropyLoss(BaseLoss):
    r"""Cross-entropy of logits that are shifted by the log-frequency of their class, for long-tailed data.

    .. math::
        l = -w_y \log \frac{\pi_y^\tau e^{x_y}}{\sum_c \pi_c^\tau e^{x_c}}, \qquad
        \pi_c = \frac{n_c}{\sum_{c'} n_{c'}}

    with :math:`n` the ``class_counts``. In training mode :math:`\tau \log \pi` is added to the logits, so that the
    logits themselves need not learn how frequent a class is. In ``eval()`` mode nothing is added.

    Use when: classes are long-tailed in training and all of them matter at test time (balanced accuracy). Take the
    argmax of the raw logits there.

    Args:
        class_counts: C numbers ≥ 0: how often each class occurs. Only ratios matter, so probabilities do as well. A
            class of count 0 is treated as the rarest one that occurs.
        tau: τ ≥ 0; 1 is balanced softmax, 0 cross-entropy. Default: 1.
        class_weight: list or tensor of C weights ≥ 0. Default: none.
        ignore_index: label that is ignored: its loss and gradient are 0, and it is not counted; None: no label is.
            Default: -100. May also be given per call. For class indices only.
        label_smoothing: in [0, 1]. Default: 0.
        adjust_in_eval: the logits are adjusted in ``eval()`` mode too. Default: False.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,C,*S), any number of further dims.
        - target: (N,*S) integer, values in [0,C) or ``ignore_index``; or probabilities (N,C,*S).
        - weight: (N,*S) or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` (the denominator of cross-entropy) and ``sum``, (N,*S) for ``none``.

    Raises:
        InputError: as `CrossEntropyLoss`; another number of classes than of counts.
        ConfigError: an option outside its range; negative counts, or none that is positive.

    Example:
        >>> import torch
        >>> loss = LogitAdjustedCrossEntropyLoss(class_counts=[90, 10])
        >>> logits, label = torch.tensor([[0.0, 0.0]]), torch.tensor([1])
        >>> loss(logits, label)
        tensor(2.3026)
        >>> loss.eval()(logits, label)
        tensor(0.6931)

    References:
        Menon et al., Long-tail learning via logit adjustment, ICLR 2021, arXiv 2007.07314.
        Ren et al., Balanced Meta-Softmax for Long-Tailed Visual Recognition, NeurIPS 2020, arXiv 2007.10740 (τ = 1).

    Notes:
        Equals ``CrossEntropyLoss`` with τ = 0 or equal counts. A criterion that never leaves training mode always
        adjusts. The authors' code adds 1e-12 to π^τ, which gives an absent class the logit -27.6; balanced softmax
        gives it -inf. ``losses_core.get_class_weight`` and ``losses weights`` count labels.
    """

    function = logit_adjusted_cross_entropy_loss
    internal_options = ("adjustment",)
    example = examples.LABELS.built_with(class_counts=list(range(10, 0, -1)))
    adjustment: Tensor

    def __init__(
        self,
        class_counts: Sequence[float] | Tensor,
        tau: float = 1.0,
        class_weight: Sequence[float] | Tensor | None = None,
        ignore_index: int | None = -100,
        label_smoothing: float = 0.0,
        adjust_in_eval: bool = False,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        expected = f"{type(self).__name__}: class_counts: expected"
        given: Any = class_counts  # a config may hold anything
        if given is None or isinstance(given, (int, float)):
            raise ConfigError(f"{expected} a list or 1-D tensor of numbers >= 0, one per class; got {given}.")
        self._set_vector("class_counts", class_counts)
        if not any(float(count) > 0 for count in class_counts):
            raise ConfigError(f"{expected} a positive number among them; got zeros.")
        self.tau = checks.number(self, "tau", tau, low=0)
        self._set_vector("adjustment", logit_adjustment(class_counts, tau))
        self._set_vector("class_weight", class_weight)
        self.ignore_index = ignored_label(self, ignore_index)
        self.label_smoothing = checks.number(self, "label_smoothing", label_smoothing, low=0, high=1)
        self.adjust_in_eval = checks.flag(self, "adjust_in_eval", adjust_in_eval)

    def _arguments(self, pred: Any, target: Any, options: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
        classes = self.adjustment.shape[0]
        if pred.ndim > 1 and pred.shape[1] != classes:
            raise InputError(
                f"class_counts: expected {pred.shape[1]} entries, one per class of pred {tuple(pred.shape)}; "
                f"got {classes}."
            )
        if self.tau and (self.training or self.adjust_in_eval):
            options["adjustment"] = self._vector("adjustment", pred, classes)
        return pred, target, options
