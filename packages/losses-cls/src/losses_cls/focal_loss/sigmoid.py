"""Focal losses of independent yes/no questions (Lin et al., ICCV 2017, arXiv 1708.02002)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from torch import Tensor

from losses_cls._targets import check_index, check_lengths, ignored_label, is_index, like_pred
from losses_core import BaseLoss, LossOptions, Unreduced, examples
from losses_core.errors import InputError
from losses_core.kernels import Prepared, definition, delegate
from losses_core.utils import checks
from losses_core.utils.focal import along_channels, alpha_is_off, focal_elements, sigmoid_focal


@definition(delegates=True)
def binary_focal_loss(
    pred: Tensor,
    target: Tensor,
    *,
    alpha: Tensor | float | None = 0.25,
    gamma: float = 2.0,
    class_weight: Tensor | float | None = None,
    ignore_index: int | None = -100,
) -> Unreduced:
    """Focal loss of sigmoid probabilities, elementwise and unreduced: see `BinaryFocalLoss`.

    Args:
        pred: logits, any shape.
        target: in [0, 1], of the shape of ``pred``; (N,) for ``pred`` (N,1).
        alpha: weight of the positives (1 - alpha that of the negatives), a number or (C,) along axis 1; None or
            negative: off.
        gamma: focusing parameter ≥ 0.
        class_weight: a number, or (C,) along axis 1.
        ignore_index: elements of the target equal to it are ignored; None: none is.

    Returns:
        ``Unreduced``: a value of the shape of ``pred``, and a normalizer of 1, 0 where ignored.
    """
    options = {"alpha": alpha, "gamma": gamma, "class_weight": class_weight, "ignore_index": ignore_index}
    target = like_pred(pred, target)
    check_lengths(pred, options)
    return delegate(sigmoid_focal, pred, target, **options)


def _prepare_index(pred: Tensor, target: Tensor, **options: Any) -> Prepared:
    if not is_index(pred, target):
        raise InputError(f"expected target with class indices for pred {tuple(pred.shape)}; got {tuple(target.shape)}.")
    target, options["ignore_index"] = check_index(pred, target, options["ignore_index"], extra=(pred.shape[1],))
    check_lengths(pred, options)
    options["alpha"] = None if alpha_is_off(options["alpha"]) else options["alpha"]
    return pred, target, options


def _index_normalizer(pred: Tensor, target: Tensor, *, ignore_index: int | None, **_: Any) -> Tensor | None:
    if ignore_index is None:
        return None
    valid = target != ignore_index
    return valid if pred.ndim == 2 else valid.unsqueeze(1).expand_as(pred)


@definition(layout="channels", prepare=_prepare_index, normalizer=_index_normalizer)
def index_focal_loss(
    pred: Tensor,
    target: Tensor,
    *,
    alpha: Tensor | float | None = 0.25,
    gamma: float = 2.0,
    class_weight: Tensor | float | None = None,
    ignore_index: int | None = -100,
) -> Unreduced:
    """Focal loss of sigmoid probabilities for class indices with background, as in RetinaNet: see `FocalLoss`.

    Args:
        pred: logits (N,C,*S).
        target: (N,*S), values in [0,C), or C for background: no positive among the classes.
        alpha, gamma, class_weight: as in `binary_focal_loss`.
        ignore_index: label that is ignored, in all classes; None: none is.

    Returns:
        ``Unreduced``: a value (N,C,*S), and a normalizer of 1, 0 where ignored.
    """
    ignored = None if ignore_index is None else (target == ignore_index).unsqueeze(1)
    x = pred if ignored is None else pred.masked_fill(ignored, 0)
    value = focal_elements(x, one_hot(x, target), alpha, gamma, class_weight)
    # Unreduced, once the normalizer is attached
    return value if ignored is None else value.masked_fill(ignored, 0)  # type: ignore[return-value]


def one_hot(x: Tensor, target: Tensor) -> Tensor:
    """Labels (n,s) as 0 and 1 in the shape and dtype of ``x``; a label outside the classes has no 1."""
    classes = along_channels(torch.arange(x.shape[1], device=x.device), x)
    return torch.eq(target.unsqueeze(1), classes).to(x.dtype)


class BinaryFocalLoss(BaseLoss):
    r"""Focal loss of each element, for binary targets of any shape.

    .. math:: l = -\alpha_t (1-p_t)^\gamma \log p_t, \qquad p = \sigma(x)

    with :math:`p_t = p, \alpha_t = \alpha` where the target is 1, :math:`1-p` and :math:`1-\alpha` where it is 0.

    Use when: yes/no targets with few positives: objectness, binary masks, rare events.

    Args:
        alpha: weight of the positives in [0,1]; None or negative: off. Default: 0.25.
        gamma: focusing parameter ≥ 0. Default: 2.
        ignore_index: elements of the target equal to it are ignored; None: none is. Default: -100. May also be given
            per call.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits, any shape.
        - target: of the shape of pred, in [0,1] (float, int or bool), or (N,) for pred (N,1).
        - weight: of the shape of pred or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` (Σ l / number of elements not ignored) and ``sum``, the shape of pred for ``none``.

    Raises:
        InputError: a shape that does not fit; on the CPU, a target outside [0,1] that is not ``ignore_index``.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = BinaryFocalLoss()
        >>> loss(torch.tensor([0.0, 2.0]), torch.tensor([1, 0]))
        tensor(0.6404)

    References:
        Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, arXiv 1708.02002.

    Notes:
        Equals torchvision's ``sigmoid_focal_loss`` where that is finite.
    """

    function = binary_focal_loss
    internal_options = ("class_weight",)
    example = examples.BINARY

    def __init__(
        self,
        alpha: float | None = 0.25,
        gamma: float = 2.0,
        ignore_index: int | None = -100,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.alpha = None if alpha is None else checks.number(self, "alpha", alpha, high=1)
        self.gamma = checks.number(self, "gamma", gamma, low=0)
        self.ignore_index = ignored_label(self, ignore_index)


class MultiLabelFocalLoss(BaseLoss):
    r"""Focal loss of each class on its own, for multi-hot targets.

    .. math:: l_c = -w_c\, \alpha_t (1-p_t)^\gamma \log p_t, \qquad p = \sigma(x_c)

    Use when: several classes may hold at once, and most do not.

    Args:
        alpha: weight of the positives in [0,1], a number or a list of C; None or negative: off. Default: 0.25.
        gamma: focusing parameter ≥ 0. Default: 2.
        class_weight: list or tensor of C weights ≥ 0. Default: none.
        ignore_index: elements of the target equal to it are ignored; None: none is. Default: -100. May also be given
            per call.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,C,*S).
        - target: multi-hot (N,C,*S) (float, int or bool).
        - weight: (N,C,*S) or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` (Σ l / number of elements not ignored) and ``sum``, (N,C,*S) for ``none``.

    Raises:
        InputError: a shape that does not fit; class indices, with a hint; on the CPU, a target outside [0,1] that is
            not ``ignore_index``.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = MultiLabelFocalLoss(class_weight=[1.0, 2.0])
        >>> loss(torch.zeros(1, 2), torch.tensor([[1, 0]]))
        tensor(0.1516)

    References:
        Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, arXiv 1708.02002.
    """

    function = binary_focal_loss
    example = examples.BINARY

    def __init__(
        self,
        alpha: float | Sequence[float] | Tensor | None = 0.25,
        gamma: float = 2.0,
        class_weight: Sequence[float] | Tensor | None = None,
        ignore_index: int | None = -100,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self._set_vector("alpha", alpha)
        self.gamma = checks.number(self, "gamma", gamma, low=0)
        self._set_vector("class_weight", class_weight)
        self.ignore_index = ignored_label(self, ignore_index)
