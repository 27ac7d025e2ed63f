"""The sums of Dice and of a loss of pixels, and their gradient, from one activation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from losses_core._kernels.focal import sigmoid_focal_kernel
from losses_core.kernels import kernel
from losses_core.utils.stable import logistic_loss, power
from losses_seg._compound import sigmoid_sums, softmax_sums
from losses_seg._kernels.region_sums import dense_grad, dense_target, sum_by_label
from losses_seg._region import Intersection
from losses_seg._targets import ignored_mask, is_labels, masked


@kernel(softmax_sums, passes=2, temporaries=4, large_blocks=True)
class SoftmaxSums:
    """Sums in the first pass, the gradient in the second one; both start from log-probabilities, (n,C,s).

    These are the lowest number where ignored, so that the probability is 0 and its product with a target of 0 too.
    """

    encode = False

    @staticmethod
    def number(*, smoothed: bool, **_: Any) -> int:
        """How many sums there are of each image and class."""
        return 6 if smoothed else 5

    @staticmethod
    def activate(x: Tensor, target: Tensor, *, out: Tensor | None, ignore_index: int | None, **_: Any) -> Tensor:
        """The log-probabilities."""
        log_p = torch.log_softmax(x, 1) if out is None else torch.log_softmax(x, 1, out=out)
        ignored = ignored_mask(x, target, ignore_index, "softmax")
        return log_p if ignored is None else log_p.masked_fill_(ignored, torch.finfo(log_p.dtype).min)

    @classmethod
    def forward(
        cls,
        log_p: Tensor,
        target: Tensor,
        *,
        ignore_index: int | None,
        exponent: float,
        intersection: Intersection,
        gamma: float,
        smoothed: bool,
    ) -> Tensor:
        """The sums (n,5,C), or (n,6,C)."""
        ignored = ignored_mask(log_p, target, ignore_index, "softmax")
        if is_labels(log_p, target) and not cls.encode:
            index = masked(target.unsqueeze(1), ignored)
            at_label = log_p.gather(1, index)
            valid = torch.ones_like(at_label) if ignored is None else (~ignored).to(at_label.dtype)
            entropy = masked(_focal(at_label, gamma), ignored)
            of_labels = torch.cat([at_label.exp(), valid, entropy], 1)
            both, area, entropy = sum_by_label(of_labels, index, log_p.shape[1]).unbind(1)
            pixels = area.sum(1, keepdim=True).expand_as(area)
            powers = log_p.exp() if exponent == 1 else torch.mul(log_p, exponent).exp_()
            powers = powers.sum(2)
        else:
            p, g = log_p.exp(), dense_target(log_p, target, ignored)
            pixels = p.new_full((), p.shape[2]) if ignored is None else p.shape[2] - ignored.sum(2, dtype=p.dtype)
            both = (p * g if intersection == "product" else torch.minimum(p, g)).sum(2)
            area = (power(g, exponent) if target.dtype.is_floating_point else g).sum(2)
            entropy = _focal(log_p.clamp(min=torch.finfo(p.dtype).min), gamma).mul_(g).sum(2)  # 0 · log 0 is 0
            powers, pixels = power(p, exponent).sum(2), pixels.expand(p.shape[:2])
        sums = [both, powers, area, pixels, entropy]
        if smoothed:
            sums.append(masked(log_p, ignored).sum(2).neg_())
        return torch.stack(sums, 1)

    @classmethod
    def backward(
        cls,
        log_p: Tensor,
        target: Tensor,
        grads: Tensor,
        *,
        ignore_index: int | None,
        exponent: float,
        intersection: Intersection,
        gamma: float,
        smoothed: bool,
    ) -> Tensor:
        """The gradient of the sums times ``grads`` (n,5,C) or (n,6,C), in the memory of the log-probabilities.

        With v the derivative with respect to log p, that with respect to the logits is v - p Σv.
        """
        ignored = ignored_mask(log_p, target, ignore_index, "softmax")
        if is_labels(log_p, target) and not cls.encode:
            index = masked(target.unsqueeze(1), ignored)
            of_both, of_entropy = (grads[:, k].gather(1, index[:, 0]).unsqueeze(1) for k in (0, 4))
            if gamma:
                of_entropy.mul_(_minus_focal_grad(log_p.gather(1, index), gamma))
            p, of_power = log_p.exp_(), grads[:, 1, :, None] * exponent
            grad = p * of_power if exponent in (1, 2) else p.pow(exponent).mul_(of_power)
            if exponent == 2:
                grad.mul_(p)
            of_label = of_both.mul_(p.gather(1, index)).sub_(of_entropy)
            grad.scatter_add_(1, index, of_label if ignored is None else of_label.masked_fill_(ignored, 0))
        else:
            g, minimum = (
                dense_target(log_p, target, ignored),
                intersection == "minimum" and target.dtype.is_floating_point,
            )
            of_entropy = g * grads[:, 4, :, None]
            if gamma:
                of_entropy.mul_(_minus_focal_grad(log_p, gamma))
            p = log_p.exp_()
            grad = dense_grad(p, g, grads.unsqueeze(3), exponent, minimum).mul_(p).sub_(of_entropy)
        if smoothed:
            grad.sub_(grads[:, 5, :, None])
            grad = grad if ignored is None else grad.masked_fill_(ignored, 0)
        return torch.addcmul(grad, p, grad.sum(1, keepdim=True), value=-1, out=p)


@kernel(softmax_sums, passes=2, compiled=True)
class TracedSoftmaxSums(SoftmaxSums):
    """The same for a compiler, which fuses the encoding of labels into the sums and does not store it."""

    encode = True


def _focal(log_p: Tensor, gamma: float) -> Tensor:
    """-(1-p)^γ log p."""
    return log_p.neg() if gamma == 0 else power(torch.expm1(log_p).neg_(), gamma) * -log_p


def _minus_focal_grad(log_p: Tensor, gamma: float) -> Tensor:
    """Its derivative by -log p, q^γ (1 - γ p log p / q) with q = 1 - p; p log p / q is in [-1, 0]."""
    q = torch.expm1(log_p).neg_()
    log_p = log_p.clamp(min=torch.finfo(log_p.dtype).min)  # 0 · log 0 is 0
    ratio = torch.rsub(q, 1).mul_(log_p).div_(q.clamp(min=torch.finfo(q.dtype).tiny))
    return torch.rsub(ratio, 1, alpha=gamma).mul_(power(q, gamma))


@kernel(sigmoid_sums, passes=2, temporaries=9)
class SigmoidSums:
    """The same of one channel, from the logits."""

    @staticmethod
    def number(**_: Any) -> int:
        """How many sums there are of each image."""
        return 5

    @staticmethod
    def forward(
        x: Tensor,
        target: Tensor,
        *,
        ignore_index: int | None,
        exponent: float,
        intersection: Intersection,
        gamma: float,
        alpha: Tensor | float | None,
    ) -> Tensor:
        """The sums (n,5,1)."""
        ignored, g = ignored_mask(x, target, ignore_index, "sigmoid"), target.to(x.dtype)
        entropy = _binary_focal(x, g, alpha, gamma, needs_grad=False)[0]
        entropy = (entropy if ignored is None else entropy.masked_fill_(ignored, 0)).sum(2)
        p = torch.sigmoid(x)
        p = p if ignored is None else p.masked_fill_(ignored, 0)
        both = (p * g if intersection == "product" else torch.minimum(p, g)).sum(2)  # 0 where p is 0
        pixels = p.new_full((), p.shape[2]) if ignored is None else p.shape[2] - ignored.sum(2, dtype=p.dtype)
        powers = power(p, exponent).sum(2)
        area = masked(power(g, exponent) if target.dtype.is_floating_point else g, ignored).sum(2)
        return torch.stack([both, powers, area, pixels.expand(p.shape[:2]), entropy], 1)

    @staticmethod
    def backward(
        x: Tensor,
        target: Tensor,
        grads: Tensor,
        *,
        ignore_index: int | None,
        exponent: float,
        intersection: Intersection,
        gamma: float,
        alpha: Tensor | float | None,
    ) -> Tensor:
        """The gradient of the sums times ``grads`` (n,5,1)."""
        g, p = target.to(x.dtype), torch.sigmoid(x)
        minimum = intersection == "minimum" and target.dtype.is_floating_point
        grad = dense_grad(p, g, grads.unsqueeze(3), exponent, minimum)
        grad.mul_(torch.addcmul(p, p, p, value=-1))
        of_entropy = (
            p.sub_(g) if gamma == 0 and alpha is None else _binary_focal(x, g, alpha, gamma, needs_grad=True)[1]
        )
        grad = torch.addcmul(grad, of_entropy, grads[:, 4, :, None])
        ignored = ignored_mask(x, target, ignore_index, "sigmoid")
        return grad if ignored is None else grad.masked_fill_(ignored, 0)


def _binary_focal(x: Tensor, g: Tensor, alpha: Any, gamma: float, needs_grad: bool) -> Any:
    """Value and gradient of each element."""
    if gamma == 0 and alpha is None:
        return logistic_loss(x, g), None
    options = {"alpha": alpha, "gamma": gamma, "class_weight": None, "ignore_index": None}
    return sigmoid_focal_kernel(x, g, needs_grad=needs_grad, **options)
