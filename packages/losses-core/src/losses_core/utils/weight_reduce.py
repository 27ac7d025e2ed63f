"""Weighting and reduction, in one place for the base class and for plain functions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from losses_core.errors import InputError
from losses_core.utils.autograd import zero_grad_where
from losses_core.utils.precision import full_precision, match_dtype, upcast

REDUCTIONS = ("none", "mean", "sum")


class Unreduced(NamedTuple):
    """What a loss returns before reduction.

    Attributes:
        value: the loss of each element; any shape, 0-d for a batch-level loss.
        normalizer: each element's share of the denominator of ``mean`` (bool or number), of the shape of ``value``, or
            of a leading-dims prefix of it, where it counts once for each element under it. None: 1 each.
        already_global: the value is that of the whole batch on every rank already (a batch-level loss that gathered,
            under ``sync_dist``), so nothing is left to sum over the ranks.
    """

    value: Tensor
    normalizer: Tensor | None = None
    already_global: bool = False


class Group(NamedTuple):
    """The ranks that a loss is normalised over; ``handle`` None is the default process group."""

    handle: Any = None


class Reduction(NamedTuple):
    """A loss one division away from its result: ``scale`` times ``numerator / denominator``, or ``numerator`` alone.

    With a ``group``, numerator and denominator are this rank's part and are to be summed first, by
    `losses_core.distributed.compute_all`.
    """

    numerator: Tensor
    denominator: Tensor | float | None
    reduction: str
    group: Group | None = None
    scale: float = 1.0

    def compute(self) -> Tensor:
        """The reduced loss."""
        numerator, denominator, scale = self.numerator, self.denominator, self.scale
        if denominator is None:
            return numerator if scale == 1.0 else numerator * scale
        if isinstance(denominator, Tensor):
            denominator = positive(denominator)
        elif denominator <= 0:
            denominator = 1
        if isinstance(denominator, Tensor) or scale == 1.0:
            result = numerator / denominator
            return result if scale == 1.0 else result * scale
        return numerator * (scale / denominator)


def positive(denominator: Tensor) -> Tensor:
    """A denominator with 1 where it is ≤ 0, without a branch, which would wait for the device; NaN stays NaN."""
    if denominator.is_floating_point():
        return denominator.masked_fill(denominator <= 0, 1)
    return denominator.clamp(min=1)


def check_reduction(reduction: str, allowed: Sequence[str] = REDUCTIONS) -> None:
    """Refuse an unknown reduction with the list of the known ones."""
    if reduction not in allowed:
        raise InputError(f"reduction: expected one of {', '.join(map(repr, allowed))}; got {reduction!r}.")


def align(weight: Tensor, shape: Sequence[int]) -> Tensor | None:
    """View ``weight`` so that it multiplies a tensor of ``shape``, or None where it is no leading-dims prefix of it."""
    if weight.shape != torch.Size(shape[: weight.ndim]) or weight.ndim > len(shape):
        return None
    return weight.reshape(weight.shape + (1,) * (len(shape) - weight.ndim))


def apply_weight(value: Tensor, weight: Tensor) -> Tensor:
    """Multiply by sample weights; an element of weight zero is zero whatever its value."""
    aligned = align(weight, value.shape)
    if aligned is None:
        raise weight_error(value.shape, weight)
    return (value * aligned).masked_fill(aligned == 0, 0)


def weight_error(shape: Sequence[int], weight: Tensor) -> InputError:
    """The error for sample weights of another shape than the loss or a prefix of it."""
    return InputError(
        f"expected weight of the loss's shape {tuple(shape)} or of a leading-dims prefix of it; "
        f"got {tuple(weight.shape)}."
    )


def partial_reduce(
    value: Tensor, normalizer: Tensor | None, reduction: str, avg_factor: float | Tensor | None
) -> Reduction:
    """Reduce up to the division (``batchmean``, where a class allows it, divides by the first axis)."""
    if reduction == "none":
        return Reduction(value, None, reduction)
    denominator = given_denominator(reduction, avg_factor)
    if denominator is None and reduction != "sum":
        batch = value.shape[0] if value.ndim else 1
        denominator = batch if reduction == "batchmean" else total_normalizer(value, normalizer)
    return Reduction(value.sum(), denominator, reduction)


def given_denominator(reduction: str, avg_factor: float | Tensor | None) -> float | Tensor | None:
    """The ``avg_factor``, once it is checked; None where there is none."""
    if avg_factor is not None:
        if reduction == "sum":
            raise InputError("reduction='sum' takes no avg_factor; use reduction='mean' to divide by it.")
        if isinstance(avg_factor, Tensor) and avg_factor.ndim:
            raise InputError(f"avg_factor: expected a number or a 0-d tensor; got shape {tuple(avg_factor.shape)}.")
    return avg_factor


def total_normalizer(value: Tensor, normalizer: Tensor | None) -> Tensor | float:
    """Σ normalizer over the elements of ``value``, a plain number where no element is excluded."""
    if normalizer is None:
        return value.numel()
    # a compiler would make a loop of its own for whole numbers, and store the mask that it reads
    total = normalizer.to(value.dtype).sum() if torch.compiler.is_compiling() else normalizer.sum()
    for size in value.shape[normalizer.ndim :]:
        total = total * size
    return total


@full_precision
def reduce_loss(loss: Tensor, reduction: str) -> Tensor:
    """Reduce a loss: ``none``, ``mean`` (Σ / number of elements) or ``sum``.

    The mean of an empty loss is 0 and stays connected to the graph.

    Args:
        loss: any shape.
        reduction: ``'none'``, ``'mean'`` or ``'sum'``.

    Raises:
        InputError: unknown reduction.

    Example:
        >>> import torch
        >>> reduce_loss(torch.tensor([1.0, 3.0]), "mean")
        tensor(2.)
    """
    check_reduction(reduction)
    return partial_reduce(loss, None, reduction, None).compute()


@full_precision
def weight_reduce_loss(
    loss: Tensor,
    weight: Tensor | None = None,
    reduction: str = "mean",
    avg_factor: float | Tensor | None = None,
) -> Tensor:
    """Weight a loss element by element, then reduce it.

    Args:
        loss: any shape.
        weight: of the shape of ``loss`` or of a leading-dims prefix of it. It multiplies the loss and does not enter
            the denominator. An element of weight zero is zero even where the loss is NaN.
        reduction: ``'none'``, ``'mean'`` or ``'sum'``.
        avg_factor: denominator of ``mean`` instead of the number of elements; where it is ≤ 0, 1 is used.

    Raises:
        InputError: a weight of another shape, an unknown reduction, ``avg_factor`` with ``'sum'``.

    Example:
        >>> import torch
        >>> weight_reduce_loss(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 0.0]), avg_factor=1)
        tensor(1.)
    """
    check_reduction(reduction)
    if weight is not None:
        loss = apply_weight(loss, weight.to(loss.dtype))
    return partial_reduce(loss, None, reduction, avg_factor).compute()


def weighted_loss(loss_func: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Give an unreduced loss function the arguments ``weight``, ``reduction`` and ``avg_factor``.

    ``f(pred, target, **options)`` becomes ``f(pred, target, weight=None, reduction='mean', avg_factor=None,
    **options)`` under the rules of `weight_reduce_loss`; half precision is computed in float32, and an element of
    weight zero has a gradient of exactly zero.

    Args:
        loss_func: takes ``pred`` and ``target`` first and returns the loss of each element.

    Example:
        >>> import torch
        >>> @weighted_loss
        ... def absolute(pred, target):
        ...     return (pred - target).abs()
        >>> absolute(torch.tensor([1.0, 4.0]), torch.zeros(2), torch.tensor([1.0, 0.5]))
        tensor(1.5000)
    """

    @full_precision
    @functools.wraps(loss_func)
    def wrapper(
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        reduction: str = "mean",
        avg_factor: float | Tensor | None = None,
        **options: Any,
    ) -> Tensor:
        check_reduction(reduction)
        target = match_dtype(target, pred.dtype)
        aligned = None if weight is None else align(weight, pred.shape)
        if aligned is not None:
            pred = zero_grad_where(pred, aligned == 0)
        return weight_reduce_loss(upcast(loss_func(pred, target, **options)), weight, reduction, avg_factor)

    first, second, *rest = inspect.signature(loss_func).parameters.values()
    inserted = list(inspect.signature(weight_reduce_loss).parameters.values())[1:]
    keyword_only = [p if p.kind is p.VAR_KEYWORD else p.replace(kind=p.KEYWORD_ONLY) for p in rest]
    wrapper.__signature__ = inspect.Signature([first, second, *inserted, *keyword_only])  # type: ignore[attr-defined]
    return wrapper
