"""Multi-label losses that compare the positives of a set with its negatives."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from losses_cls._targets import ignored_label, prepare_elements
from losses_core import BaseLoss, LossOptions, Unreduced, examples
from losses_core.errors import InputError
from losses_core.kernels import Prepared, definition


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
        tensor(0.9890)

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
