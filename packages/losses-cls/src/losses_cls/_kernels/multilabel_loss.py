"""Kernels of the losses that compare positives with negatives."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from losses_cls.multilabel_loss import hardness, two_way_loss, zlpr_loss
from losses_core._blocks import block_size, ranges
from losses_core.kernels import kernel

_TEMPORARIES = 8
_MANY_CLASSES = 64
"""Classes from which on the sums of each sample are kept for the gradient: they take little beside the logits."""


@kernel(zlpr_loss, bound=1.0, temporaries=7, large_blocks=True)
def zlpr_kernel(
    x: Tensor, target: Tensor, *, ignore_index: int | None, needs_grad: bool
) -> tuple[Tensor, Tensor | None]:
    """Value log(1 + Σ e^x) of the negatives plus that of -x of the positives, and the gradient ±e^(±x) / (1 + Σ)."""
    positive = target > 0.5
    signed = torch.where(positive, -x, x)
    if ignore_index is not None:
        signed.masked_fill_(target == ignore_index, -torch.inf)
    # the largest of each side and of the 1 = e^0 that is added to it
    tops = [signed.masked_fill(mask, -torch.inf).amax(1, keepdim=True).clamp_(min=0) for mask in (~positive, positive)]
    terms = signed.sub_(torch.where(positive, tops[0], tops[1])).exp_()
    part = (terms * positive).sum(1, keepdim=True), terms.masked_fill(positive, 0).sum(1, keepdim=True)
    rest = [total.add_(torch.expm1(-top)) for total, top in zip(part, tops, strict=True)]  # the sum less 1
    value = torch.log1p(rest[0]).add_(torch.log1p(rest[1])).add_(tops[0]).add_(tops[1])
    if not needs_grad:
        return value.squeeze(1), None
    return value.squeeze(1), terms.div_(torch.where(positive, -1 - rest[0], rest[1] + 1))


# a compiler has the definition in fewer passes over memory
@kernel(two_way_loss, compiled=False, supports=lambda pred, target, *, group, **_: group is None)
def two_way_kernel(
    x: Tensor,
    target: Tensor,
    *,
    temperature_pos: float,
    temperature_neg: float,
    ignore_index: int | None,
    reduction: str,
    group: None,
    needs_grad: bool,
) -> tuple[Tensor, Tensor | None]:
    """Value and gradient ±Σ dh/d(margin) exp(v) / Σ exp(v) over the sample and the class of an element.

    The first pass sums the exponentials, those of a class relative to the largest so far; the second, of the gradient,
    repeats those of the samples.
    """
    temperatures, shape = (temperature_pos, temperature_neg), x.shape
    kept: list[tuple[Tensor, Tensor] | None] = []
    precision = torch.float64 if x.dtype == torch.float64 else torch.float32
    x, target = (t.flatten(2) if t.ndim > 2 else t.unsqueeze(2) for t in (x, target))
    tops = torch.full((2, 1, x.shape[1], 1), -torch.inf, dtype=precision, device=x.device)
    totals, samples = torch.zeros_like(tops), tops.new_zeros(2)
    scale = torch.stack([torch.full_like(samples[0], t) for t in (-1 / temperature_pos, 1 / temperature_neg)])

    def block(part: tuple[slice, slice, slice]) -> tuple[Tensor, Tensor]:
        """The exponents v of a block, -inf where ignored, and which are of positives."""
        signs = target[part]
        positive = signs > 0
        v = _by_side(positive, scale).mul_(x[part])
        return (v if ignore_index is None else v.masked_fill_(signs == 0, -torch.inf)), positive

    for part in _parts(x):
        v, positive = block(part)
        sides = v.masked_fill(~positive, -torch.inf), v.masked_fill(positive, -torch.inf)
        _, relative, more = _sums(v, positive, _tops(sides, (1,)), (1,))
        samples = samples + torch.stack(hardness(relative, more, temperatures)[:2])
        kept.append((relative, more) if x.shape[1] >= _MANY_CLASSES else None)
        before, tops = tops, torch.maximum(tops, _tops(sides, (0, 2)))
        del sides
        _, relative, more = _sums(v, positive, tops, (0, 2))
        totals = more.addcmul_(totals, (before - relative).exp_())
    tops = _finite(tops)
    of_classes, classes, turn = hardness(tops, totals, temperatures)
    numbers = torch.stack([samples[1], classes]).clamp_(min=1)
    shares = torch.ones_like(numbers) if reduction == "sum" else numbers.reciprocal_()
    value = samples[0] * shares[0] + of_classes * shares[1]
    if not needs_grad:
        return value, None
    of_class = _over(turn * shares[1], totals)
    grad = x.new_empty(x.shape, dtype=x.dtype if x.dtype == torch.bfloat16 else precision)
    for part, sums in zip(_parts(x), kept, strict=True):
        v, positive = block(part)
        if sums is None:
            sides = v.masked_fill(~positive, -torch.inf), v.masked_fill(positive, -torch.inf)
            terms, relative, more = _sums(v, positive, _tops(sides, (1,)), (1,))
            del sides
        else:
            relative, more = sums
            terms = (v - _by_side(positive, relative)).exp_()
        of_sample = _over(hardness(relative, more, temperatures)[2] * shares[0], more)
        terms.mul_(_by_side(positive, of_sample))
        v.sub_(_by_side(positive, tops)).exp_().mul_(_by_side(positive, of_class))
        grad[part] = terms.add_(v).mul_(target[part])  # with the opposite sign
    return value, grad.neg_().view(shape)


def _parts(x: Tensor) -> Iterator[tuple[slice, slice, slice]]:
    """Samples and positions of each block of (N,C,P)."""
    n, c, p = x.shape
    size = max(1, block_size(x, _TEMPORARIES, large=True) // max(1, c))
    for samples in ranges(n, max(1, size // max(1, p))):
        for positions in ranges(p, size):
            yield slice(*samples), slice(None), slice(*positions)


def _tops(sides: tuple[Tensor, Tensor], dims: tuple[int, ...]) -> Tensor:
    """The largest exponent of positives and negatives, -inf without any, (2,…)."""
    return torch.stack([side.amax(dims, keepdim=True) for side in sides])


def _by_side(positive: Tensor, pair: Tensor) -> Tensor:
    """The first of a pair for positives, the second for negatives."""
    return torch.where(positive, pair[0], pair[1])


def _finite(tops: Tensor) -> Tensor:
    return tops.masked_fill(tops == -torch.inf, 0)


def _sums(v: Tensor, positive: Tensor, tops: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Exp of each exponent relative to the largest, that largest, and the sums of positives and negatives."""
    tops = _finite(tops)
    terms = (v - _by_side(positive, tops)).exp_()
    sums = (terms * positive).sum(dims, keepdim=True), terms.masked_fill(positive, 0).sum(dims, keepdim=True)
    return terms, tops, torch.stack(sums)


def _over(turn: Tensor, totals: Tensor) -> Tensor:
    """What multiplies the exponentials of both sides; 0 for a set that lacks one, where ``turn`` is 0."""
    return turn / totals.masked_fill(totals == 0, 1)
