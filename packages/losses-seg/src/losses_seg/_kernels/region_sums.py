"""Sums over the pixels of each image and class, and their gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from losses_core.kernels import kernel
from losses_core.utils.stable import power
from losses_seg._activation import activate, activation_grad, activation_grad_by_operator
from losses_seg._region import Intersection, region_sums
from losses_seg._targets import Activation, class_mask, ignored_mask, is_labels, masked


@kernel(region_sums, passes=2, temporaries=3, large_blocks=True)
class RegionSums:
    """Sums in the first pass, the gradient in the second one; both start from the probabilities, (n,C,s).

    Labels are gathered and scattered by, not encoded.
    """

    encode = False
    activation_grad = staticmethod(activation_grad_by_operator)

    @staticmethod
    def power_sum(x: Tensor, exponent: float) -> Tensor:
        """Σ x^e along axis 2; of squares by the norm, which stores none of them."""
        return torch.linalg.vector_norm(x, dim=2).square_() if exponent == 2 else power(x, exponent).sum(2)

    @staticmethod
    def number(*, complement: bool, **_: Any) -> int:
        """How many sums there are of each image and class."""
        return 8 if complement else 4

    @staticmethod
    def activate(
        x: Tensor, target: Tensor, *, out: Tensor | None, ignore_index: int | None, activation: Activation, **_: Any
    ) -> Tensor:
        """The probabilities, 0 where ignored."""
        p = x.clone() if activation == "none" and out is None else activate(x, activation, out)
        ignored = ignored_mask(x, target, ignore_index, activation)
        return p if ignored is None else p.masked_fill_(ignored, 0)

    @classmethod
    def forward(
        cls,
        p: Tensor,
        target: Tensor,
        *,
        ignore_index: int | None,
        activation: Activation,
        exponent: float,
        intersection: Intersection,
        complement: bool,
    ) -> Tensor:
        """The sums (n,4,C), or (n,8,C)."""
        ignored = ignored_mask(p, target, ignore_index, activation)
        if is_labels(p, target) and not cls.encode:
            index = masked(target.unsqueeze(1), ignored)
            values = p.new_empty(p.shape[0], 2, p.shape[2])  # the probability of the label, and 1 where it is valid
            torch.gather(p, 1, index, out=values[:, :1])
            values[:, 1:].fill_(1) if ignored is None else torch.logical_not(ignored, out=values[:, 1:])
            both, area = sum_by_label(values, index, p.shape[1]).unbind(1)
            pixels = area.sum(1, keepdim=True).expand_as(area)
            return torch.stack([both, cls.power_sum(p, exponent), area, pixels], 1)
        pixels = p.new_full((), p.shape[2]) if ignored is None else p.shape[2] - ignored.sum(2, dtype=p.dtype)
        pixels, sums = pixels.expand(p.shape[:2]), []
        for q, g in _pairs(p, target, ignored, complement):
            both = q * g if intersection == "product" else torch.minimum(q, g)
            area = cls.power_sum(g, exponent if target.dtype.is_floating_point else 1)
            sums += [both.sum(2), cls.power_sum(q, exponent), area, pixels]
        return torch.stack(sums, 1)

    @classmethod
    def backward(
        cls,
        p: Tensor,
        target: Tensor,
        grads: Tensor,
        *,
        ignore_index: int | None,
        activation: Activation,
        exponent: float,
        intersection: Intersection,
        complement: bool,
    ) -> Tensor:
        """The gradient of the sums times ``grads`` (n,4,C), or (n,8,C), in the memory of p."""
        # first the derivative with respect to p; at ignored elements anything, as p is 0 there
        if is_labels(p, target) and not cls.encode:
            of_both, of_power = grads[:, 0], grads[:, 1, :, None]
            index = target.unsqueeze(1)
            index = index if ignore_index is None else index.clamp(0, p.shape[1] - 1)
            grad = (
                of_power.expand_as(p).contiguous() if exponent == 1 else power(p, exponent - 1) * (exponent * of_power)
            )
            grad.scatter_add_(1, index, of_both.gather(1, index[:, 0]).unsqueeze(1))
        else:
            minimum = intersection == "minimum" and target.dtype.is_floating_point
            parts = [
                dense_grad(q, g, of.unsqueeze(3), exponent, minimum)
                for (q, g), of in zip(_pairs(p, target, None, complement), grads.split(4, 1), strict=True)
            ]
            grad = parts[0].sub_(parts[1]) if complement else parts[0]
        if activation != "none":
            return cls.activation_grad(grad, p, activation)
        ignored = ignored_mask(p, target, ignore_index, activation)
        return grad if ignored is None else grad.masked_fill_(ignored, 0)


@kernel(region_sums, passes=2, device="cpu", large_blocks=True)
class RegionSumsOnCpu(RegionSums):
    """The same with the gradient of the activation in the memory of the probabilities."""

    activation_grad = staticmethod(activation_grad)

    @staticmethod
    def power_sum(x: Tensor, exponent: float) -> Tensor:
        """Σ x^e along axis 2: with the squares stored, in the cache, a CPU is faster."""
        return power(x, exponent).sum(2)


@kernel(region_sums, passes=2, compiled=True)
class TracedRegionSums(RegionSumsOnCpu):
    """The same for a compiler, which fuses the encoding of labels into the sums and does not store it."""

    encode = True


def _pairs(p: Tensor, target: Tensor, ignored: Tensor | None, complement: bool) -> list[tuple[Tensor, Tensor]]:
    """p and the target as numbers of its shape, 0 where ignored; then their complements."""
    g = dense_target(p, target, ignored)
    return [(p, g), (masked(1 - p, ignored), masked(1 - g, ignored))] if complement else [(p, g)]


def dense_target(p: Tensor, target: Tensor, ignored: Tensor | None) -> Tensor:
    """The target as numbers of the shape and dtype of p, 0 where ignored."""
    return masked((class_mask(target, p.shape[1]) if is_labels(p, target) else target).to(p.dtype), ignored)


def dense_grad(p: Tensor, g: Tensor, grads: Tensor, exponent: float, minimum: bool) -> Tensor:
    """The derivative of the sums with respect to p times ``grads`` (n,4,C,1), in memory of its own."""
    if minimum:
        g = (g - p).sign_().add_(1).mul_(0.5)  # whether p < g, and 1/2 where p = g
    grad = g * grads[:, 0]
    if exponent == 1:
        return grad.add_(grads[:, 1])
    return grad.addcmul_(power(p, exponent - 1), grads[:, 1] * exponent)


def sum_by_label(values: Tensor, index: Tensor, classes: int) -> Tensor:
    """Sum values (n,K,s) by the class of the pixel, index (n,1,s), to (n,K,C).

    In many sums of some hundred pixels that are added up at the end: one sum of millions would lose precision in
    float32, and additions to one address wait for each other, as neighbours are mostly of one class.
    """
    sums = 1 << max(0, values.shape[2].bit_length() - 8)
    index = torch.add(torch.arange(values.shape[2], device=values.device).bitwise_and_(sums - 1), index, alpha=sums)
    total = values.new_zeros(values.shape[0], values.shape[1], classes * sums)
    total.scatter_add_(2, index.expand_as(values), values)
    return total.view(*values.shape[:2], classes, sums).sum(3)
