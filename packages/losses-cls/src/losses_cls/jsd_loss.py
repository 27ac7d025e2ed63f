"""Cross-entropy with the Jensen-Shannon consistency of AugMix (Hendrycks et al., ICLR 2020, arXiv 1912.02781)."""

from __future__ import annotations

from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_cls._targets import ignored_label, index_normalizer
from losses_cls.cross_entropy.softmax import negative_expectation
from losses_core import BaseLoss, LossOptions, Unreduced, examples
from losses_core.errors import InputError
from losses_core.kernels import Prepared, definition
from losses_core.utils import checks
from losses_core.utils.value_checks import check_labels


def _prepare(pred: Tensor, target: Tensor, **options: Any) -> Prepared:
    """View pred as (B,K,C,*S), and take the labels of the first split."""
    checks.floating(pred)
    num_splits = options["num_splits"]
    shape = tuple(pred.shape)
    if pred.ndim < 2:
        raise InputError(f"expected pred of shape (num_splits·B, C, *S); got {shape}.")
    if num_splits < 2:
        raise InputError(f"num_splits: expected an integer >= 2; got {num_splits}.")
    if shape[0] % num_splits:
        raise InputError(
            f"expected pred with num_splits={num_splits} parts of one size along axis 0, the clean batch and its "
            f"augmented copies; got {shape}, and {num_splits} does not divide {shape[0]}."
        )
    rows = shape[0] // num_splits
    labels = checks.index("target", target)
    checks.shape("target", labels, (rows, *shape[2:]), (shape[0], *shape[2:]), reference=f"pred {shape}")
    labels = labels[:rows]
    options["ignore_index"] = check_labels(labels, shape[1], options["ignore_index"])
    return pred.unflatten(0, (num_splits, rows)).transpose(0, 1), labels, options


def _normalizer(pred: Tensor, target: Tensor, *, ignore_index: int | None, **_: Any) -> Tensor | None:
    # the layout does not tell how many positions a sample has
    return torch.ones_like(target) if ignore_index is None else index_normalizer(target, ignore_index, None)


@definition(layout="batch", prepare=_prepare, normalizer=_normalizer)
def jsd_cross_entropy_loss(
    pred: Tensor,
    target: Tensor,
    *,
    num_splits: int = 3,
    alpha: float = 12.0,
    smoothing: float = 0.1,
    ignore_index: int | None = -100,
) -> Unreduced:
    """Cross-entropy of the clean samples plus α times the divergence of all splits: see `JSDCrossEntropyLoss`.

    Args:
        pred: logits (K·B,C,*S), the clean batch first.
        target: class indices (B,*S), or (K·B,*S) of which the first B count.
        num_splits: K.
        alpha: factor of the divergence ≥ 0.
        smoothing: label smoothing of the cross-entropy, in [0, 1).
        ignore_index: label that is ignored, in all splits; None: none is.

    Returns:
        ``Unreduced``: a value (B,*S), and a normalizer of 1, 0 where ignored.
    """
    ignored = None if ignore_index is None else target == ignore_index
    if ignored is not None:
        pred = pred.masked_fill(ignored.unsqueeze(1).unsqueeze(1), 0)
    value = negative_expectation(pred[:, 0], target, None, ignore_index, smoothing)
    log_p = F.log_softmax(pred, 2).clamp(min=torch.finfo(pred.dtype).min)  # 0 · -inf is NaN
    divergence = (log_p.exp() * log_ratio(log_p)).sum((1, 2)) / num_splits
    return value + alpha * divergence  # type: ignore[return-value]


def log_ratio(log_p: Tensor) -> Tensor:
    """log p - log M along axis 1, M the mean of p; exactly 0 where all are equal."""
    relative = log_p - log_p.detach().amax(1, keepdim=True)
    return relative - relative.exp().mean(1, keepdim=True).log()


def _draw(loss: Any, draw: examples.Draw) -> examples.Inputs:
    rows = draw.pred[0] // loss.num_splits
    return examples.Inputs(draw.normal(draw.pred), draw.labels(draw.pred[1], draw.target or (rows, *draw.pred[2:])))


def _margin_of_the_copies(clean: float) -> Any:
    def at(loss: Any, t: Tensor) -> examples.Inputs:
        margins = torch.stack([torch.full_like(t, clean), *(t for _ in range(loss.num_splits - 1))])
        return examples.Inputs(torch.stack([margins, torch.zeros_like(margins)], 1), torch.tensor([0]))

    return at


class JSDCrossEntropyLoss(BaseLoss):
    r"""Cross-entropy of clean images plus the Jensen-Shannon divergence between them and their augmented copies.

    .. math::
        l_i = \mathrm{CE}_s\!\left(x_i^{(1)}, y_i\right) + \frac{\alpha}{K} \sum_{k=1}^{K}
        \mathrm{KL}\!\left(p_i^{(k)} \,\|\, M_i\right), \qquad M_i = \frac1K \sum_k p_i^{(k)}

    with :math:`p^{(k)}` the softmax of split k, the first of which is the clean batch.

    Use when: training with AugMix or other strong augmentations, for robustness to corruptions: predictions for the
    copies of an image are pulled together.

    Args:
        num_splits: K ≥ 2: the clean batch and K - 1 augmented copies of it, in the same order. Default: 3.
        alpha: factor α ≥ 0 of the divergence. Default: 12.
        smoothing: label smoothing of the cross-entropy, in [0, 1). Default: 0.1.
        ignore_index: label that is ignored, in all splits: its loss and gradient are 0, and it is not counted; None: no
            label is. Default: -100. May also be given per call.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (K·B,C,*S).
        - target: (B,*S) integer, values in [0,C) or ``ignore_index``; or (K·B,*S), of which the first B count.
        - weight: (B,), or (B,*S) or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` (Σ l / number of labels not ignored) and ``sum``, (B,*S) for ``none``.

    Raises:
        InputError: a batch that K does not divide; another shape or dtype that does not fit; on the CPU, a label
            outside [0,C) that is not ``ignore_index``.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = JSDCrossEntropyLoss(num_splits=2, smoothing=0.0)
        >>> loss(torch.tensor([[2.0, 0.0], [1.0, 0.0]]), torch.tensor([0]))
        tensor(0.3466)

    References:
        Hendrycks et al., AugMix: A Simple Data Processing Method to Improve Robustness and Uncertainty, ICLR 2020,
        arXiv 1912.02781.

    Notes:
        Equals timm's ``JsdCrossEntropy``, which bounds M below by 1e-7: log M is exact here, and the divergence at most
        log K without a bound. With α = 0, or equal splits, it is `LabelSmoothLoss` of the first split.
    """

    coupled = "batch"
    function = jsd_cross_entropy_loss
    example = examples.Example(
        _draw,
        (12, 10),
        examples.Path(
            "logit of the true class minus the other, of the augmented copies",
            "the margin",
            (-5, 8),
            {f"clean margin {m:g}": _margin_of_the_copies(m) for m in (0.0, 2.0, 4.0)},
        ),
    )

    def __init__(
        self,
        num_splits: int = 3,
        alpha: float = 12.0,
        smoothing: float = 0.1,
        ignore_index: int | None = -100,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.num_splits = checks.number(self, "num_splits", num_splits, low=2, integer=True)
        self.alpha = checks.number(self, "alpha", alpha, low=0)
        self.smoothing = checks.number(self, "smoothing", smoothing, low=0, below=1)
        self.ignore_index = ignored_label(self, ignore_index)

    def _on_pred(self, weight: Tensor, pred: Tensor) -> Tensor | None:
        """View a weight (B,*S), or of a prefix of its axes, on pred (B,K,C,*S)."""
        if not weight.ndim:
            return weight
        missing = (1,) * (pred.ndim - 2 - weight.ndim)
        return weight.reshape(*weight.shape[:1], 1, 1, *weight.shape[1:], *missing)
