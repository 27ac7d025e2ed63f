"""The sums that overlap losses are made of, with one backward that keeps the probabilities and the target."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from losses_core.utils.autograd import Function
from losses_seg._targets import Target, holds, is_class, safe_labels


class Sums(NamedTuple):
    """Sums over the pixels of an image that are not ignored, (N,C) each; or over those of the batch, (C,).

    Attributes:
        inter: Σ p g, or Σ min(p,g) for soft targets and exponent 1.
        pred: Σ p^e.
        true: Σ g^e, without a gradient.
    """

    inter: Tensor
    pred: Tensor
    true: Tensor

    def over_batch(self) -> Sums:
        """The sums of the whole batch: the one step of an overlap loss in which images meet."""
        return Sums(*(x.sum(0) for x in self))


def class_sums(p: Tensor, target: Target, exponent: float = 1) -> Sums:
    """Sum per image and class.

    Args:
        p: probabilities (N,C,*S), 0 where ignored.
        target: what stands against them.
        exponent: e ≥ 1 of the sums of ``pred`` and ``true``.
    """
    if target.labels is not None:
        return Sums(*_LabelSums.apply(p, target.labels, target.ignore_index, exponent))
    assert_never = target.dense
    return _dense(p, assert_never, target.ignored, exponent)


def _power_sum(p: Tensor, exponent: float) -> Tensor:
    # Tensor.sum adds in a tree. A norm or a product of matrices adds one after the other: 0.1 % off over 512² float32
    return _power(p, exponent).flatten(2).sum(2)


def _power(p: Tensor, exponent: float) -> Tensor:
    return p if exponent == 1 else p * p if exponent == 2 else p.pow(exponent)


def _power_slope(p: Tensor, exponent: float, grad: Tensor) -> Tensor:
    """A new tensor: the derivative of Σ p^e, times ``grad`` (N,C)."""
    grad = _over(grad, p)
    if exponent == 1:
        return grad.expand_as(p).clone()
    return p * (2 * grad) if exponent == 2 else p.pow(exponent - 1) * (exponent * grad)


def _over(per_class: Tensor, p: Tensor) -> Tensor:
    """View (N,C) over (N,C,*S)."""
    return per_class.reshape(per_class.shape + (1,) * (p.ndim - 2))


def _masked() -> bool:
    """Whether to compare labels with each class instead of gathering and scattering by them."""
    return torch.compiler.is_compiling() or torch.are_deterministic_algorithms_enabled()


class _LabelSums(Function):
    """Sums against class indices, without encoding them."""

    @staticmethod
    def forward(p: Tensor, labels: Tensor, ignore_index: int, exponent: float) -> tuple[Tensor, Tensor, Tensor]:
        if _masked():
            inter, true = _by_comparison(p, labels, holds(labels, ignore_index))
        else:
            index = safe_labels(labels, ignore_index)
            counted = ~holds(labels, ignore_index)
            inter = _by_scatter(p.gather(1, index), index, p.shape[1])
            true = _by_scatter(counted.to(p.dtype), index, p.shape[1])
        return inter, _power_sum(p, exponent), true

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        p, labels, ctx.ignore_index, ctx.exponent = inputs
        ctx.save_for_backward(p, labels)
        ctx.mark_non_differentiable(output[2])

    @staticmethod
    def backward(ctx: Any, grad_inter: Tensor, grad_pred: Tensor, _: Any) -> tuple[Tensor, None, None, None]:
        p, labels = ctx.saved_tensors
        slope = _power_slope(p, ctx.exponent, grad_pred)
        # what is added at ignored pixels meets p = 0, or the zeros of masked_fill, on its way to the logits
        if not _masked():
            index = safe_labels(labels, ctx.ignore_index)
            share = grad_inter.gather(1, index.flatten(1)).view_as(index)
            # in place, unless the gradient is itself being differentiated
            slope = (slope.scatter_add if torch.is_grad_enabled() else slope.scatter_add_)(1, index, share)
        elif torch.compiler.is_compiling():
            slope = slope + torch.where(is_class(labels, p.shape[1]), _over(grad_inter, p), 0)
        else:
            spread = [torch.where(labels == c, _over(g.unsqueeze(1), p)[:, 0], 0) for c, g in enumerate(grad_inter.unbind(1))]
            slope = slope + torch.stack(spread, 1)
        return slope, None, None, None


def _by_comparison(p: Tensor, labels: Tensor, ignored: Tensor) -> tuple[Tensor, Tensor]:
    classes = p.shape[1]
    if torch.compiler.is_compiling():
        same = is_class(labels, classes)
        inter = torch.where(same, p, 0).flatten(2).sum(2)
        return inter, (same & ~ignored.unsqueeze(1)).flatten(2).sum(2).to(p.dtype)
    # class by class: all at once would be the one-hot encoding
    same_class = [labels == c for c in range(classes)]
    raise NotImplementedError


_CHUNK = 512


def _by_scatter(values: Tensor, index: Tensor, classes: int) -> Tensor:
    """Sum (N,…) values by class.

    In chunks, then over them: adding a quarter of a million numbers one after the other in float32 is 0.1 % off.
    """
    values, index = values.flatten(1), index.flatten(1)
    missing = -values.shape[1] % _CHUNK
    if missing:
        values = torch.nn.functional.pad(values, (0, missing))
        index = torch.nn.functional.pad(index, (0, missing))
    chunks = values.unflatten(1, (-1, _CHUNK))
    sums = values.new_zeros(*chunks.shape[:2], classes)
    return sums.scatter_add_(2, index.view_as(chunks), chunks).sum(1)
