"""The correlation of softened probabilities on the host: softmax, moments and gradient block by block."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from losses_core.utils import host
from losses_core.utils.summed import number
from losses_distill._blocks import blocks
from losses_distill.kd_loss._exponentials import sound
from losses_distill.kd_loss._pearson import Pearson, mean, of_moments, pearson

_LEFT = 1 / 8
"""Share of a sum of squares that is left once the mean is taken off, from which on it has all but three of its bits."""


def correlation(x: Tensor, t: Tensor, beta: float, gamma: float, temperature: float, least: float) -> Tensor:
    """β(1 - mean r of rows) + γ(1 - mean r of columns) of the softened probabilities of logits (N,C), not empty."""
    return _OfLogits.apply(x, t, beta, gamma, temperature, least)[0]  # type: ignore[no-any-return]


class _OfLogits(host.HostFunction):
    """Keeps both probabilities and a number per row and column for each.

    Those of the student are a second output, so that a double backward finds their derivative in the graph.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, t: Tensor, beta: float, gamma: float, temperature: float, least: float
    ) -> tuple[Tensor, Tensor]:
        moments = _Moments(x, t, temperature)
        p, q = moments.both
        found = moments.correlated(least) or _found(pearson(p, q, 1, least), pearson(p, q, 0, least))
        ctx.settings = beta, gamma, temperature, least
        ctx.save_for_backward(p, q, found.rows, found.columns, found.constant)
        ctx.set_materialize_grads(False)
        return number(beta * found.of_rows + gamma * found.of_columns, x), p

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, grad_p: Tensor | None) -> tuple[Tensor | None, ...]:
        p, q, rows, columns, constant = ctx.saved_tensors
        beta, gamma, temperature, least = ctx.settings
        total = gradient = None
        if grad is not None and torch.is_grad_enabled():
            along, across = pearson(p, q, 1, least), pearson(p, q, 0, least)
            beta, gamma = grad * beta, grad * gamma
            total = p * (beta * along.of_p + gamma * across.of_p) + q * (beta * along.of_q + gamma * across.of_q)
            total = total - (beta * along.constant + gamma * across.constant)
        elif grad is not None:
            beta, gamma = grad * (beta / temperature), grad * (gamma / temperature)
            gradient = _gradient(p, q, rows * beta, columns * gamma, constant * gamma)
        if grad_p is not None:
            total = grad_p if total is None else total + grad_p
        if total is not None:
            pulled = p * (total - (p * total).sum(1, keepdim=True)) / temperature
            gradient = pulled if gradient is None else gradient + pulled
        return gradient, None, None, None, None, None


class _Found(NamedTuple):
    """The means of 1 - r; the gradients of these are of_p · p + of_q · q, for columns minus a constant.

    A constant of a row means nothing to the softmax.
    """

    of_rows: float
    of_columns: float
    rows: Tensor
    """of_p and of_q, (2,N,1)."""
    columns: Tensor
    """(2,1,C)"""
    constant: Tensor
    """(1,C)"""


def _found(rows: Pearson, columns: Pearson) -> _Found:
    of_rows, of_columns = (torch.stack((part.of_p, part.of_q)) for part in (rows, columns))
    return _Found(mean(rows).item(), mean(columns).item(), of_rows, of_columns, columns.constant)


class _Moments:
    """Softened probabilities of student and teacher (2,N,C), and their sums, of squares and of products."""

    def __init__(self, x: Tensor, t: Tensor, temperature: float) -> None:
        self.number, self.classes = x.shape
        self.both = x.new_empty(2, self.number, self.classes)
        self.sound = True
        # rows then columns: Σ p², Σ q², Σ p q
        self.raw = x.new_empty(3, self.number + self.classes)
        self.totals = x.new_empty(2, self.classes)
        size = -(-self.number // -(-2 * x.numel() // host.BLOCK))
        memory = x.new_empty(3, size, self.classes)
        for start in range(0, self.number, size):
            part = slice(start, min(start + size, self.number))  # the columns stand behind the last row
            self._block(x[part], t[part], host.LOG2E / temperature, part, memory[:, : self.number - start])
        if not self.sound:
            torch.softmax(x / temperature, 1, out=self.both[0])
            torch.softmax(t / temperature, 1, out=self.both[1])

    def _block(self, x: Tensor, t: Tensor, factor: float, part: slice, products: Tensor) -> None:
        both = self.both[:, part]
        p, q = both
        torch.mul(x, factor, out=p)
        torch.mul(t, factor, out=q)
        sums = both.exp2_().sum(2, keepdim=True)
        self.sound = self.sound and sound(sums, self.classes)
        both.mul_(sums.reciprocal_())
        torch.mul(both, both, out=products[:2])
        torch.mul(p, q, out=products[2])
        torch.sum(products, 2, out=self.raw[:, part])
        columns = self.raw[:, self.number :]
        if part.start:
            columns.add_(products.sum(1))
            self.totals.add_(both.sum(1))
        else:
            torch.sum(products, 1, out=columns)
            torch.sum(both, 1, out=self.totals)

    def correlated(self, least: float) -> _Found | None:
        """From the sums; None where they do not have the digits."""
        if not self.sound:
            return None
        n = self.number
        means, centred = self.totals / n, torch.empty_like(self.raw)
        torch.sub(self.raw[:, :n], 1 / self.classes, out=centred[:, :n])
        torch.addcmul(self.raw[:2, n:], means, means, value=-n, out=centred[:2, n:])
        torch.addcmul(self.raw[2, n:], means[0], means[1], value=-n, out=centred[2, n:])
        squares = centred[:2]
        if not (squares / self.raw[:2]).amin().item() > _LEFT:  # of NaN too
            return None
        if not squares.amin().item() > least * least:
            of_p, of_q, of_both = centred[:, :n].unsqueeze(2).unbind()
            along = of_moments(of_p, of_q, of_both, 1 / self.classes, 1 / self.classes, least)
            of_p, of_q, of_both = centred[:, n:].unsqueeze(1).unbind()
            mean_p, mean_q = means.unsqueeze(1).unbind()
            return _found(along, of_moments(of_p, of_q, of_both, mean_p, mean_q, least))
        square_p, square_q, product = centred
        norms = (square_p * square_q).sqrt_()
        r = product / norms
        of_rows, of_columns = (1 - r[part].mean().item() for part in (slice(n), slice(n, None)))
        slopes = torch.stack((r.div_(square_p), norms.reciprocal_().neg_()))
        rows, columns = slopes[:, :n].mul_(1 / n), slopes[:, n:].mul_(1 / self.classes)
        constant = (columns * means).sum(0, keepdim=True)
        return _Found(of_rows, of_columns, rows.unsqueeze(2), columns.unsqueeze(1), constant)


def _gradient(p: Tensor, q: Tensor, rows: Tensor, columns: Tensor, constant: Tensor) -> Tensor:
    """Back through the softmax."""
    gradient = torch.empty(p.shape, dtype=p.dtype)
    for p_part, q_part, result, of_p, of_q in blocks(p, q, gradient, *rows, size=2 * host.BLOCK):
        slope = torch.add(of_p, columns[0]).mul_(p_part)
        slope.addcmul_(torch.add(of_q, columns[1], out=result), q_part).sub_(constant)
        torch.mul(slope, p_part, out=result)
        result.addcmul_(p_part, result.sum(1, keepdim=True), value=-1)
    return gradient
