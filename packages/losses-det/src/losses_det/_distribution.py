"""The mathematics of distribution focal loss: cross-entropy of the two bins around a distance."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core.utils import host
from losses_core.utils.autograd import Function

_SAFE = 2.0**32
"""Between it and its inverse, a sum of exponentials was taken of logits so small that their maximum need not be
subtracted: that costs no digit of the probabilities that count."""


def distribution_focal(x: Tensor, y: Tensor) -> Tensor:
    """The loss (…) of logits (…,B) and distances (…) of the precision of ``x``."""
    if y.requires_grad:
        index, share = _neighbours(y, x.shape[-1] - 1)
        return -(F.log_softmax(x, -1).gather(-1, index) * share).sum(-1)
    if x.numel() and host.on_host(x, y):
        value, _ = _OnHost.apply(x, y)
        return value  # type: ignore[no-any-return]
    return _Distribution.apply(x, y)  # type: ignore[no-any-return]


class _Distribution(Function):
    """Keeps the logits and the target; the softmax is computed anew."""

    @staticmethod
    def forward(x: Tensor, y: Tensor) -> Tensor:
        index, share = _neighbours(y, x.shape[-1] - 1)
        return -(F.log_softmax(x, -1).gather(-1, index) * share).sum(-1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        x, y = ctx.saved_tensors
        index, share = _neighbours(y, x.shape[-1] - 1)
        grad = grad.unsqueeze(-1)
        return (F.softmax(x, -1) * grad).scatter_add(-1, index, -share * grad), None


def _neighbours(y: Tensor, reg_max: int) -> tuple[Tensor, Tensor]:
    """The two bins around y, (…,2), and the share of each; at reg_max all of it is the last bin's."""
    y = y.clamp(0, reg_max)
    left = y.long().clamp(0, reg_max - 1)  # clamped once more: NaN has become any number
    right_share = y - left
    return torch.stack((left, left + 1), -1), torch.stack((1 - right_share, right_share), -1)


class _OnHost(host.HostFunction):
    """Keeps p minus the share of each bin, which is the gradient, and the distances.

    The former is a second output, so that a double backward finds its derivative in the graph.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        gap, value = torch.empty(x.shape, dtype=x.dtype), torch.empty(y.shape, dtype=x.dtype)
        rows = host.rows_per_block((1, x.shape[-1]))
        flat = x.reshape(-1, x.shape[-1]), y.reshape(-1), gap.view(-1, x.shape[-1]), value.view(-1)
        for part in zip(*(tensor.split(rows) for tensor in flat), strict=True):
            _fill(*part)
        ctx.save_for_backward(gap, y)
        ctx.set_materialize_grads(False)
        return value, gap

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, grad_gap: Tensor | None) -> tuple[Tensor | None, None]:
        gap, y = ctx.saved_tensors
        total = None if grad is None else gap * grad.unsqueeze(-1)
        if grad_gap is not None:
            p = gap.scatter_add(-1, *_neighbours(y, gap.shape[-1] - 1))
            of_gap = p * (grad_gap - (p * grad_gap).sum(-1, keepdim=True))
            total = of_gap if total is None else total + of_gap
        return total, None


def _fill(x: Tensor, y: Tensor, gap: Tensor, value: Tensor) -> None:
    """Gap and value of some rows."""
    index, share = _neighbours(y, x.shape[-1] - 1)
    torch.mul(x, host.LOG2E, out=gap).exp2_()
    total = gap.sum(-1, keepdim=True)
    gap.div_(total)
    probability = gap.gather(-1, index)
    log_p = probability.log()
    low, high = total.aminmax()
    if not (low.item() > 1 / _SAFE and high.item() < _SAFE and probability.amin().item() > 0):
        # row by row, so that none has a say in another; a NaN is not sound
        sound = (total > 1 / _SAFE) & (total < _SAFE) & (probability.amin(-1, keepdim=True) > 0)
        exact = F.log_softmax(x, -1)
        log_p = torch.where(sound, log_p, exact.gather(-1, index))
        gap.copy_(torch.where(sound, gap, exact.exp()))
    torch.sum(log_p.mul_(share), -1, out=value).neg_()
    gap.scatter_add_(-1, index, share.neg_())
