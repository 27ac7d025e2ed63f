"""Sums over the pixels of each image and class, and their gradient, without encoding index targets."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from losses_core.kernels import kernel
from losses_core.utils.stable import power
from losses_seg._region import Intersection, region_sums
from losses_seg._targets import Activation, ignored_mask, is_labels, masked


@kernel(region_sums, passes=2, large_blocks=True)
class RegionSums:
    """Sums in the first pass, the gradient in the second one; both start from the probabilities, (n,C,s)."""

    number = 4

    @staticmethod
    def activate(
        x: Tensor,
        target: Tensor,
        *,
        out: Tensor | None,
        ignore_index: int | None,
        activation: Activation,
        complement: bool,
        **_: Any,
    ) -> Tensor:
        """The probabilities or their complement, 0 where ignored."""
        if activation == "none":
            p = x.clone() if out is None else out.copy_(x)
        else:
            p = torch.softmax(x, 1, out=out) if activation == "softmax" else torch.sigmoid(x, out=out)
        if complement:
            p.neg_().add_(1)
        ignored = ignored_mask(x, target, ignore_index, activation)
        return p if ignored is None else p.masked_fill_(ignored, 0)

    @staticmethod
    def forward(
        p: Tensor,
        target: Tensor,
        *,
        ignore_index: int | None,
        activation: Activation,
        exponent: float,
        intersection: Intersection,
        complement: bool,
    ) -> Tensor:
        """The sums (n,4,C)."""
        ignored = ignored_mask(p, target, ignore_index, activation)
        valid = torch.ones_like(p[:, :1]) if ignored is None else (~ignored).to(p.dtype)
        if is_labels(p, target):
            index = masked(target.unsqueeze(1), ignored)
            both, of_target = _sum_by_label(torch.cat([p.gather(1, index), valid], 1), index, p.shape[1]).unbind(1)
        else:
            g = _dense(p, target, ignored, complement)
            both = (p * g if intersection == "product" else torch.minimum(p, g)).sum(2)
            of_target = (power(g, exponent) if target.is_floating_point() else g).sum(2)
        of_pred = torch.linalg.vector_norm(p, dim=2).square() if exponent == 2 else power(p, exponent).sum(2)
        return torch.stack([both, of_pred, of_target, valid.sum(2).expand_as(both)], 1)

    @staticmethod
    def backward(
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
        """The gradient of the sums times ``grads`` (n,4,C), in the memory of p."""
        ignored = ignored_mask(p, target, ignore_index, activation)
        both, power_sum = grads[:, 0], grads[:, 1, :, None] * exponent
        if is_labels(p, target) and activation == "softmax":
            # p_j (d_j - Σ p d) with d_j = e a_j p_j^(e-1) + b_j 1[j=y]
            index = masked(target.unsqueeze(1), ignored)
            at_label = both.gather(1, index[:, 0]).unsqueeze(1).mul_(p.gather(1, index))
            grad = power(p, exponent).mul(power_sum)
            total = grad.sum(1, keepdim=True).add_(at_label)
            return torch.addcmul(grad, p, total, value=-1, out=p).scatter_add_(1, index, at_label)
        grad = _grad_of_probabilities(p, target, ignored, both, power_sum, exponent, intersection, complement)
        if complement:
            grad.neg_()
        if activation == "softmax":
            grad.mul_(p)
            return torch.addcmul(grad, p, grad.sum(1, keepdim=True), value=-1, out=p)
        if activation == "sigmoid":
            return torch.addcmul(p, p, p, value=-1, out=p).mul_(grad)
        return grad if ignored is None else grad.masked_fill_(ignored, 0)


def _grad_of_probabilities(
    p: Tensor,
    target: Tensor,
    ignored: Tensor | None,
    both: Tensor,
    power_sum: Tensor,
    exponent: float,
    intersection: Intersection,
    complement: bool,
) -> Tensor:
    """The derivative with respect to p; at ignored elements anything."""
    if is_labels(p, target):
        index = masked(target.unsqueeze(1), ignored)
        grad = power(p, exponent - 1).mul(power_sum)
        return grad.scatter_add_(1, index, both.gather(1, index[:, 0]).unsqueeze(1))
    if intersection == "product" or not target.is_floating_point():
        share = _dense(p, target, ignored, complement)
    else:
        share = (_dense(p, target, ignored, complement) - p).sign_().add_(1).mul_(0.5)  # 1/2 where p = g
    grad = share * both.unsqueeze(2)
    return grad.add_(power_sum) if exponent == 1 else grad.addcmul_(power(p, exponent - 1), power_sum)


def _dense(p: Tensor, target: Tensor, ignored: Tensor | None, complement: bool) -> Tensor:
    """A target of the shape of p as numbers; 0 where ignored."""
    g = target.to(p.dtype)
    return masked(1 - g if complement else g, ignored)


_RUN = 12
"""Binary logarithm of the number of pixels that are added one after the other: millions would lose precision in float32,
and wait for each other on an accelerator."""


def _sum_by_label(values: Tensor, index: Tensor, classes: int) -> Tensor:
    """Sum values (n,K,s) by the class of the pixel, index (n,1,s), to (n,K,C)."""
    runs = (values.shape[2] >> _RUN) + 1
    if runs > 1:
        run = torch.arange(values.shape[2], device=values.device) >> _RUN
        index = torch.add(index, run, alpha=classes)
    sums = values.new_zeros(values.shape[0], values.shape[1], runs * classes)
    sums.scatter_add_(2, index.expand_as(values), values)
    return sums.unflatten(2, (runs, classes)).sum(2)
