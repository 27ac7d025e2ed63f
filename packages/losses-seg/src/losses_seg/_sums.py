"""The sums that overlap losses are made of, with one backward that keeps the probabilities and the target."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from losses_core.utils.autograd import Function
from losses_seg._ranks import Ranks
from losses_seg._sums_host import by_label, power
from losses_seg._targets import Target, hide, holds, is_class, over, safe_labels


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

    def over_batch(self, seen: Tensor | None, ranks: Ranks | None) -> tuple[Sums, Tensor | None]:
        """The sums of the whole batch, and whether it has pixels: the one step of an overlap loss in which images meet.

        Args:
            seen: whether each image has pixels, (N,1) or (N,C); None: they have.
            ranks: the processes that hold the batch together.
        """
        inter, pred, true = (x.sum(0) for x in self)
        if seen is None:
            return Sums(inter, pred, true), None
        pixels = seen.any(0).expand_as(true).to(true.dtype)
        if ranks is not None:
            inter, pred, true, pixels = ranks.total(torch.stack([inter, pred, true, pixels])).unbind()
        return Sums(inter, pred, true), pixels > 0


def class_sums(p: Tensor, target: Target, exponent: float = 1, *, opposite: bool = False) -> Sums:
    """Sum per image and class.

    Args:
        p: probabilities (N,C,*S), 0 where ignored.
        target: what stands against them.
        exponent: e ≥ 1 of the sums of ``pred`` and ``true``.
        opposite: 1 - p against 1 - g instead, with e = 1 and a target that is no index.
    """
    if target.index:
        return Sums(*_LabelSums.apply(p, target.values, target.ignore_index, exponent))
    g = target.values
    if g.requires_grad:
        g = hide(g, target.ignored)
        p, g = _opposite(p, g, target.ignored) if opposite else (p, g)
        inter = torch.minimum(p, g) if exponent == 1 else p * g
        return Sums(inter.flatten(2).sum(2), _power_sum(p, exponent), _power_sum(g, exponent))
    label = target.ignore_index if opposite else None
    return Sums(*_DenseSums.apply(p, g, target.ignored, exponent, label))


def _opposite(p: Tensor, g: Tensor, ignored: Tensor | None) -> tuple[Tensor, Tensor]:
    """1 - p and 1 - g, both 0 where ignored."""
    if ignored is None:
        return 1 - p, 1 - g.to(p.dtype)
    counted = (~ignored).to(p.dtype)
    return counted - p, counted - g.masked_fill(ignored, 0)


def _power_sum(p: Tensor, exponent: float) -> Tensor:
    # Tensor.sum adds in a tree. A norm or a product of matrices adds one after the other: 0.1 % off over 512² float32
    return power(p, exponent).flatten(2).sum(2)


def _power_slope(p: Tensor, exponent: float, grad: Tensor) -> Tensor:
    """A new tensor: the derivative of Σ p^e, times ``grad`` (N,C)."""
    grad = over(grad, p)
    if exponent == 1:
        return grad.expand_as(p) if torch.compiler.is_compiling() else grad.expand_as(p).clone()
    return p * (2 * grad) if exponent == 2 else p.pow(exponent - 1) * (exponent * grad)


def _masked() -> bool:
    """Whether to compare labels with each class instead of gathering and scattering by them."""
    return torch.compiler.is_compiling() or torch.are_deterministic_algorithms_enabled()


class _LabelSums(Function):
    """Sums against class indices, without encoding them."""

    @staticmethod
    def forward(p: Tensor, labels: Tensor, ignore_index: int, exponent: float) -> tuple[Tensor, Tensor, Tensor]:
        counted = ~holds(labels, ignore_index)
        if _masked():
            inter, true = _by_comparison(p, labels, counted)
        else:
            index = safe_labels(labels, ignore_index)
            inter = by_label(p.gather(1, index).flatten(1), index.flatten(1), p.shape[1])
            true = by_label(counted.to(p.dtype).flatten(1), index.flatten(1), p.shape[1])
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
            slope = slope + torch.where(is_class(labels, p.shape[1]), over(grad_inter, p), 0)
        else:
            spread = [
                torch.where(labels == c, over(g.unsqueeze(1), p)[:, 0], 0) for c, g in enumerate(grad_inter.unbind(1))
            ]
            slope = slope + torch.stack(spread, 1)
        return slope, None, None, None


class _DenseSums(Function):
    """Sums against a target of the shape of ``p``; at ignored elements p is 0, and ``g`` may be -100 or 255.

    With ``opposite``, the label of ignored elements, it is 1 - p against 1 - g: added up as such, since as a difference
    of sums a rare background would be lost.
    """

    @staticmethod
    def forward(
        p: Tensor, g: Tensor, ignored: Tensor | None, exponent: float, opposite: int | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        soft = g.is_floating_point()
        g = hide(g, ignored)
        if opposite is not None:
            p, g = _opposite(p, g, ignored)
        inter = torch.minimum(p, g) if exponent == 1 and soft else p * g
        true = _power_sum(g.to(p.dtype), exponent if soft else 1)
        return inter.flatten(2).sum(2), _power_sum(p, exponent), true

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        p, g, _, ctx.exponent, ctx.opposite = inputs
        ctx.save_for_backward(p, g)
        ctx.mark_non_differentiable(output[2])

    @staticmethod
    def backward(ctx: Any, grad_inter: Tensor, grad_pred: Tensor, _: Any) -> tuple[Tensor, None, None, None, None]:
        p, given = ctx.saved_tensors
        g, sign = given, 1
        if ctx.opposite is not None:
            (p, g), sign = _opposite(p, given, holds(given, ctx.opposite)), -1
        share = g
        if ctx.exponent == 1 and given.is_floating_point():
            # 1/2 where p = g, so that a perfect soft prediction is a stationary point
            share = ((p < g).to(p.dtype) + (p <= g)) / 2
        slope = _power_slope(p, ctx.exponent, sign * grad_pred) + share * over(sign * grad_inter, p)
        return slope, None, None, None, None


def _by_comparison(p: Tensor, labels: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """Σ p of the pixels of each class, and how many are counted."""
    if torch.compiler.is_compiling():
        same = is_class(labels, p.shape[1])
        inter = torch.where(same, p, 0).flatten(2).sum(2)
        # a sum of bools would be a loop of its own; in several float32 ones, whole numbers stay exact
        return inter, torch.where(same & counted.unsqueeze(1), p.new_ones(()), 0).flatten(2).sum(2)
    # class by class: all at once would be the one-hot encoding
    same_class = [labels == c for c in range(p.shape[1])]
    inter = torch.stack([torch.where(same, p[:, c], 0).flatten(1).sum(1) for c, same in enumerate(same_class)], 1)
    true = torch.stack([(same & counted).flatten(1).sum(1) for same in same_class], 1)
    return inter, true.to(p.dtype)
