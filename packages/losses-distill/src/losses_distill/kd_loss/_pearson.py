"""Pearson's correlation of the rows and columns of two sets of probabilities, with its gradient."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from losses_core.utils.autograd import Function


class Pearson(NamedTuple):
    """1 - correlation, summed over the vectors along one axis that have one, and how many these are.

    Then a number for each vector: the gradient of the mean with respect to p is ``of_p · p + of_q · q - constant``.
    """

    total: Tensor
    number: Tensor
    of_p: Tensor
    of_q: Tensor
    constant: Tensor


def pearson(p: Tensor, q: Tensor, dim: int, least: float) -> Pearson:
    """Along an axis, which is kept; a vector whose centred norm does not exceed ``least`` is constant."""
    mean_p, mean_q = p.mean(dim, keepdim=True), q.mean(dim, keepdim=True)
    a, b = p - mean_p, q - mean_q
    square_p, square_q, product = ((x * y).sum(dim, keepdim=True) for x, y in ((a, a), (b, b), (a, b)))
    return of_moments(square_p, square_q, product, mean_p, mean_q, least)


def of_moments(
    square_p: Tensor, square_q: Tensor, product: Tensor, mean_p: Tensor | float, mean_q: Tensor | float, least: float
) -> Pearson:
    """From centred sums of squares and products, and the means."""
    total, number, norms, flat = correlate(square_p, square_q, product, least)
    least_one = number.clamp(min=1)
    of_q = torch.where(flat, 0, -1 / norms) / least_one
    of_p = torch.where(flat, 0, product / (norms * torch.where(flat, 1, square_p))) / least_one
    return Pearson(total, number, of_p, of_q, of_p * mean_p + of_q * mean_q)


def correlate(
    square_p: Tensor, square_q: Tensor, product: Tensor, least: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Σ (1 - r) over the vectors that are not constant, their number; products of norms, and which are constant."""
    # NaN is not <= and stays visible
    flat = (square_p <= least * least) | (square_q <= least * least)
    norms = (torch.where(flat, 1, square_p) * torch.where(flat, 1, square_q)).sqrt()
    return torch.where(flat, 0, 1 - product / norms).sum(), (~flat).sum(), norms, flat


def mean(part: Pearson) -> Tensor:
    """Of 1 - correlation over the vectors that are not constant."""
    return part.total / part.number.clamp(min=1)


class Correlation(Function):
    """β(1 - mean r of rows) + γ(1 - mean r of columns). Keeps p, q and a number per row and column for each."""

    @staticmethod
    def forward(p: Tensor, q: Tensor, beta: float, gamma: float, least: float) -> tuple[Tensor, ...]:
        rows, columns = pearson(p, q, 1, least), pearson(p, q, 0, least)
        return beta * mean(rows) + gamma * mean(columns), *rows[2:], *columns[2:]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        p, q, *ctx.settings = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(p, q, *output[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, None, None, None, None]:
        p, q, *parts = ctx.saved_tensors
        beta, gamma, least = ctx.settings
        if torch.is_grad_enabled():  # what was kept is not recorded
            parts = [*pearson(p, q, 1, least)[2:], *pearson(p, q, 0, least)[2:]]
        row_p, row_q, row_constant, column_p, column_q, column_constant = parts
        beta, gamma = grad * beta, grad * gamma
        slope = p * (beta * row_p + gamma * column_p) + q * (beta * row_q + gamma * column_q)
        return slope - (beta * row_constant + gamma * column_constant), None, None, None, None
