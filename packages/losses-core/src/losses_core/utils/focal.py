"""The sigmoid focal loss and its modulating factor (Lin et al., ICCV 2017, arXiv 1708.02002)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from losses_core.errors import InputError
from losses_core.kernels import Prepared, definition
from losses_core.utils import checks, stable
from losses_core.utils.precision import full_precision
from losses_core.utils.value_checks import check_probabilities, warn_of_probabilities
from losses_core.utils.weight_reduce import Unreduced, reduce_loss


@full_precision
def focal_weight(p: Tensor, gamma: float) -> Tensor:
    r"""Modulating factor :math:`(1-p)^\gamma` of the focal loss.

    Value and gradient are finite for every ``gamma`` ≥ 0 and ``p`` in [0,1]: for 0 < γ < 1 the base is clamped to the
    machine epsilon before the power.

    Args:
        p: probability of the true class, in [0,1], any shape.
        gamma: focusing parameter, ≥ 0; 0 gives ones.

    Raises:
        InputError: a negative ``gamma``.

    Example:
        >>> import torch
        >>> focal_weight(torch.tensor([0.0, 0.5, 1.0]), 2.0)
        tensor([1.0000, 0.2500, 0.0000])
    """
    if gamma < 0:
        raise InputError(f"gamma: expected a number >= 0; got {gamma}.")
    floor = torch.finfo(p.dtype).eps if 0 < gamma < 1 else 0.0
    return (1 - p).clamp(min=floor).pow(gamma)


def _prepare(pred: Any, target: Any, **options: Any) -> Prepared:
    pred, target = checks.floating(pred), checks.tensor("target", target)
    checks.same_shape(pred, target)
    if options["gamma"] < 0:
        raise InputError(f"gamma: expected a number >= 0; got {options['gamma']}.")
    options["alpha"] = None if alpha_is_off(options["alpha"]) else options["alpha"]
    options["ignore_index"] = check_probabilities(target, options["ignore_index"])
    warn_of_probabilities(pred)
    return pred, target, options


def alpha_is_off(alpha: Any) -> bool:
    """Whether ``alpha`` is None or a negative number, which turns the balance off."""
    return alpha is None or (isinstance(alpha, (float, int)) and alpha < 0)


def _normalizer(pred: Tensor, target: Tensor, *, ignore_index: int | None, **_: Any) -> Tensor | None:
    return None if ignore_index is None else target != ignore_index


@definition(layout="channels", prepare=_prepare, normalizer=_normalizer)
def sigmoid_focal(
    pred: Tensor,
    target: Tensor,
    *,
    alpha: Tensor | float | None = 0.25,
    gamma: float = 2.0,
    class_weight: Tensor | float | None = None,
    ignore_index: int | None = None,
    epsilon: float = 0.0,
) -> Unreduced:
    r"""Sigmoid focal loss of each element, the definition behind `sigmoid_focal_loss` and the classes of losses-cls.

    .. math::
        w_c\, \alpha_t\, q^\gamma \left[-t \log p - (1-t) \log(1-p) + \epsilon q\right], \qquad q = t (1-p) + (1-t) p

    Args:
        pred: logits, any shape.
        target: in [0, 1], of the shape of ``pred``; integer and bool targets are accepted.
        alpha: weight of the positives, 1 - alpha that of the negatives: a number, or (C,) along axis 1; None or a
            negative number: off.
        gamma: focusing parameter, ≥ 0.
        class_weight: a number, or (C,) along axis 1.
        ignore_index: elements of the target equal to it are ignored.
        epsilon: coefficient of the additional q of PolyLoss.

    Returns:
        ``Unreduced``: a value of the shape of ``pred``, and a normalizer of 1, 0 where ignored.
    """
    x, t, ignored = stable.fill_ignored(pred, target.to(pred.dtype), ignore_index)
    value = focal_elements(x, t, alpha, gamma, class_weight, epsilon)
    return value if ignored is None else value.masked_fill(ignored, 0)  # type: ignore[return-value]


def focal_elements(
    x: Tensor,
    t: Tensor,
    alpha: Tensor | float | None,
    gamma: float,
    class_weight: Tensor | float | None,
    epsilon: float = 0.0,
) -> Tensor:
    """The formula of `sigmoid_focal`, for targets of the dtype of ``x``."""
    q = t + (1 - 2 * t) * torch.sigmoid(x)
    value = stable.binary_cross_entropy(x, t)
    value = stable.power(q, gamma) * (value + epsilon * q if epsilon else value)
    if alpha is not None:
        alpha = along_channels(alpha, x)
        value = value * (alpha * t + (1 - alpha) * (1 - t))
    return value if class_weight is None else value * along_channels(class_weight, x)


def along_channels(option: Any, x: Tensor) -> Any:
    """View a per-class option so that it broadcasts along axis 1 of ``x``; a number or a 0-d tensor stays as it is."""
    if not isinstance(option, Tensor) or option.ndim == 0 or x.ndim < 2:
        return option
    return option.reshape(-1, *(1 for _ in x.shape[2:]))


def sigmoid_focal_loss(
    pred: Tensor, target: Tensor, alpha: float | None = 0.25, gamma: float = 2.0, *, reduction: str = "none"
) -> Tensor:
    r"""Sigmoid focal loss, elementwise.

    .. math:: -\alpha_t (1-p_t)^\gamma \log p_t

    Value and gradient are finite for every γ ≥ 0 at saturated logits.

    Args:
        pred: logits, any shape.
        target: 0 or 1 (or a soft value between) of the shape of ``pred``; integer and bool targets are accepted.
        alpha: weight of the positives, 1 - alpha that of the negatives; None or negative: off.
        gamma: focusing parameter, ≥ 0.
        reduction: ``'none'``, ``'mean'`` or ``'sum'``.

    Returns:
        The shape of ``pred``, or 0-d when reduced.

    Raises:
        InputError: unequal shapes, a target outside [0, 1], a negative ``gamma``, an unknown reduction.

    Example:
        >>> import torch
        >>> sigmoid_focal_loss(torch.tensor([0.0, 2.0]), torch.tensor([1, 0]))
        tensor([0.0433, 1.2376])
    """
    try:
        return reduce_loss(sigmoid_focal(pred, target, alpha=alpha, gamma=gamma).value, reduction)
    except InputError as error:
        error.where = "sigmoid_focal_loss"
        raise


from losses_core._kernels import focal as _focal_kernel  # noqa: E402, F401 - registers the kernel, which needs the above
