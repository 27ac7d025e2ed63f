"""Focal losses of independent yes/no questions (Lin et al., ICCV 2017, arXiv 1708.02002)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor

from losses_cls._targets import classes_of, like_pred, per_class
from losses_core import BaseLoss, LossOptions, examples
from losses_core.utils import checks
from losses_core.utils.elementwise import Elements
from losses_core.utils.focal import SigmoidFocal, switch
from losses_core.utils.precision import full_precision


@full_precision
def binary_focal_loss(
    pred: Tensor,
    target: Tensor,
    *,
    alpha: Tensor | float | None = 0.25,
    gamma: float = 2.0,
    class_weight: Tensor | None = None,
    ignore_index: int | None = -100,
) -> Tensor:
    """Focal loss of sigmoid probabilities, elementwise and unreduced: see `BinaryFocalLoss`.

    Args:
        pred: logits, any shape.
        target: of the shape of ``pred``; (N,) for ``pred`` (N,1).
        alpha: weight of the positives (1 - alpha that of the negatives), a number or (C,) along axis 1; None or
            negative: off.
        gamma: focusing parameter ≥ 0.
        class_weight: (C,) along axis 1.
        ignore_index: elements equal to it have loss and gradient 0.

    Returns:
        The shape of ``pred``.
    """
    return deferred_focal(pred, target, alpha, gamma, class_weight, ignore_index).elements()


@full_precision
def index_focal_loss(
    pred: Tensor,
    target: Tensor,
    *,
    alpha: Tensor | float | None = 0.25,
    gamma: float = 2.0,
    class_weight: Tensor | None = None,
    ignore_index: int | None = -100,
) -> Tensor:
    """Focal loss of sigmoid probabilities for class indices with background, as in RetinaNet: see `FocalLoss`.

    Args:
        pred: logits (N,C).
        target: (N,), values in [0,C); any other label is background (no positive in the row).
        alpha, gamma, class_weight: as in `binary_focal_loss`.
        ignore_index: rows labelled with it have loss and gradient 0.

    Returns:
        (N,C)
    """
    return deferred_focal(pred, target, alpha, gamma, class_weight, ignore_index, index=True).elements()


def deferred_focal(
    pred: Tensor,
    target: Tensor,
    alpha: Tensor | float | None,
    gamma: float,
    class_weight: Tensor | None,
    ignore_index: int | None,
    *,
    index: bool = False,
) -> Elements:
    """`binary_focal_loss`, or `index_focal_loss`, to be computed."""
    if index:
        target = checks.index("target", target)
        checks.shape("target", target, pred.shape[:1], reference=f"pred {tuple(pred.shape)}")
    else:
        target = like_pred(pred, target)
    one_for_all = None if isinstance(alpha, Tensor) else switch(alpha)
    formula = SigmoidFocal(one_for_all, gamma, ignore_index, index)
    factors = per_class(alpha if isinstance(alpha, Tensor) else None, pred), per_class(class_weight, pred)
    return Elements(formula, pred, target, *factors)


class BinaryFocalLoss(BaseLoss):
    r"""Focal loss of each element, for binary targets of any shape.

    .. math:: l = -\alpha_t (1-p_t)^\gamma \log p_t, \qquad p = \sigma(x)

    with :math:`p_t = p, \alpha_t = \alpha` where the target is 1, :math:`1-p` and :math:`1-\alpha` where it is 0.

    Use when: yes/no targets with few positives: objectness, binary masks, rare events.

    Args:
        alpha: weight of the positives in [0,1]; None or negative: off. Default: 0.25.
        gamma: focusing parameter ≥ 0. Default: 2.
        ignore_index: elements of the target equal to it cost nothing and get no gradient. Default: -100.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits, any shape.
        - target: of the shape of pred (float, int or bool), or (N,) for pred (N,1).
        - weight: of the shape of pred or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` (Σ l / number of elements not ignored) and ``sum``, the shape of pred for ``none``.

    Raises:
        InputError: a shape that does not fit.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = BinaryFocalLoss()
        >>> loss(torch.tensor([0.0, 2.0]), torch.tensor([1, 0]))
        tensor(0.6404)

    References:
        Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, arXiv 1708.02002.

    Notes:
        Equals torchvision's ``sigmoid_focal_loss`` where that is finite; keeps pred and target for the backward, and
        nothing else.
    """

    example = examples.BINARY

    def __init__(
        self,
        alpha: float | None = 0.25,
        gamma: float = 2.0,
        ignore_index: int = -100,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.alpha = None if alpha is None else checks.number(self, "alpha", alpha, high=1)
        self.gamma = checks.number(self, "gamma", gamma, low=0)
        self.ignore_index = checks.number(self, "ignore_index", ignore_index, integer=True)

    def _forward(self, pred: Tensor, target: Tensor, *, ignore_index: int) -> Elements:
        return deferred_focal(pred, target, self.alpha, self.gamma, None, ignore_index)


class MultiLabelFocalLoss(BaseLoss):
    r"""Focal loss of each class on its own, for multi-hot targets.

    .. math:: l_c = -w_c\, \alpha_t (1-p_t)^\gamma \log p_t, \qquad p = \sigma(x_c)

    Use when: several classes may hold at once, and most do not.

    Args:
        alpha: weight of the positives in [0,1], a number or a list of C; None or negative: off. Default: 0.25.
        gamma: focusing parameter ≥ 0. Default: 2.
        class_weight: list or tensor of C weights ≥ 0. Default: none.
        ignore_index: elements of the target equal to it cost nothing and get no gradient. Default: -100.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,C,*S).
        - target: multi-hot (N,C,*S) (float, int or bool).
        - weight: (N,C,*S) or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` (Σ l / number of elements not ignored) and ``sum``, (N,C,*S) for ``none``.

    Raises:
        InputError: a shape that does not fit; class indices, with a hint.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = MultiLabelFocalLoss(class_weight=[1.0, 2.0])
        >>> loss(torch.zeros(1, 2), torch.tensor([[1, 0]]))
        tensor(0.1516)

    References:
        Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, arXiv 1708.02002.
    """

    example = examples.BINARY

    def __init__(
        self,
        alpha: float | Sequence[float] | Tensor | None = 0.25,
        gamma: float = 2.0,
        class_weight: Sequence[float] | Tensor | None = None,
        ignore_index: int = -100,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self._set_vector("alpha", alpha)
        self.gamma = checks.number(self, "gamma", gamma, low=0)
        self._set_vector("class_weight", class_weight)
        self.ignore_index = checks.number(self, "ignore_index", ignore_index, integer=True)

    def _forward(self, pred: Tensor, target: Tensor, *, ignore_index: int) -> Elements:
        classes = classes_of(pred)
        alpha = self.alpha if isinstance(self.alpha, int | float) else self._vector("alpha", pred, classes)
        class_weight = self._vector("class_weight", pred, classes)
        return deferred_focal(pred, target, alpha, self.gamma, class_weight, ignore_index)
