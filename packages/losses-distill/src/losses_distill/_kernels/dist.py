"""Kernel of distillation by correlation."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core.kernels import kernel
from losses_distill.kd_loss.dist import dist_loss, smallest_norm


def _supports(pred: Tensor, target: Tensor, *, temperature: Any, group: Any, **_: Any) -> bool:
    return group is None and pred.shape[0] > 0 and not isinstance(temperature, Tensor)


@kernel(dist_loss, supports=_supports)
def dist(
    x: Tensor,
    target: Tensor,
    *,
    beta: float,
    gamma: float,
    temperature: float,
    eps: float,
    needs_grad: bool,
    **_: Any,
) -> tuple[Tensor, Tensor | None]:
    """Compute the correlations of rows and columns side by side, and their gradient through the softmax."""
    if temperature != 1:
        x, target = x / temperature, target / temperature
    p, q = F.softmax(x, 1), F.softmax(target, 1)
    n, classes = p.shape
    mean_p, mean_q = p.mean(0), q.mean(0)
    rows, columns = _moments(p - 1 / classes, q - 1 / classes, 1), _moments(p - mean_p, q - mean_q, 0)
    norm_p, norm_q, product = (torch.cat(pair) for pair in zip(rows, columns, strict=True))  # (N+C,)
    smallest = smallest_norm(eps, p.dtype)
    constant = (norm_p <= smallest) | (norm_q <= smallest)
    inverse = (norm_p * norm_q).masked_fill_(constant, torch.inf).reciprocal_()
    correlation = product.mul_(inverse)
    # the weight of each row and column in the loss
    share = torch.ones_like(inverse).masked_fill_(constant, 0)
    for part, weight in zip(share.split((n, classes)), (beta, gamma), strict=True):
        part.mul_(weight / part.sum().clamp_(min=1))
    value = torch.dot(share, 1 - correlation) * temperature**2
    if not needs_grad:
        return value, None
    by_q = inverse.mul_(share).neg_()
    by_p = correlation.mul_(share).div_(norm_p.masked_fill_(constant, 1).square_())
    (row_p, column_p), (row_q, column_q) = by_p.split((n, classes)), by_q.split((n, classes))
    # a constant of a row has no gradient through the softmax
    grad = torch.add(row_p.unsqueeze(1), column_p).mul_(p).addcmul_(torch.add(row_q.unsqueeze(1), column_q), q)
    grad = grad.sub_(mean_p.mul_(column_p).addcmul_(mean_q, column_q)).mul_(p)
    return value, grad.addcmul_(p, grad.sum(1, keepdim=True), value=-1).mul_(temperature)


def _moments(a: Tensor, b: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """The norms of both along ``dim``, and their product."""
    norms = torch.linalg.vector_norm(a, dim=dim), torch.linalg.vector_norm(b, dim=dim)
    return *norms, a.mul_(b).sum(dim)
