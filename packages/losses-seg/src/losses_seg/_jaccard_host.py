"""What each error adds to the Jaccard loss of its class, on the host: row by row, and of what is asked for alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Wanted(NamedTuple):
    """Which classes are asked for; what the others come to does not matter.

    Attributes:
        present: those that occur alone.
        ids: of these; None: of all.
    """

    present: bool = False
    ids: Sequence[int] | None = None


ALL = Wanted()


def rank(key: Tensor, truth: Tensor | None, per_image: bool, wanted: Wanted) -> tuple[Tensor, Tensor, Tensor]:
    """`losses_seg._jaccard._jaccard` of whole numbers on the host, for a truth of 0 and 1.

    Row by row, as torch sorts whole numbers by their digits in one dimension, and by comparisons in two.
    """
    n, c, m = key.shape
    floating = torch.float64 if key.dtype == torch.int64 else torch.float32
    increase = torch.empty(key.shape, dtype=floating)
    images = n if per_image else 1
    constant, true = torch.zeros(images, c, dtype=floating), torch.zeros(images, c, dtype=floating)
    # counts in float32 are whole numbers up to 2^24
    exact = floating if m * n < 1 << 24 else torch.float64
    position = torch.arange(m if per_image else m * n, dtype=exact)
    for image in range(images):
        rows = slice(image, image + 1) if per_image else slice(None)
        for label in range(c):
            row, result = key[rows, label].flatten(), increase[rows, label]
            given = None if truth is None else truth[rows, label].flatten()
            total = int(((row & 1) if given is None else given).sum().item())
            true[image, label] = total
            if (wanted.present and not total) or not (wanted.ids is None or label in wanted.ids):
                result.zero_()
                continue
            ranked, order = row.sort()
            g = (ranked.bitwise_and_(1) if given is None else given.index_select(0, order)).to(exact)
            rise = _increase(g, total, position).to(floating)
            if given is None:
                constant[image, label] = (rise * g).sum()
                rise.addcmul_(rise, g.to(floating), value=-2)
            result.copy_(torch.empty_like(rise).scatter_(0, order, rise).view_as(result))
    return (increase, constant, true) if per_image else (increase, constant[0], true[0])


def _increase(g: Tensor, total: int, position: Tensor) -> Tensor:
    """For a ranked truth (P,): 1/u where it is 1, else m/(u(u+1)).

    With u = |truth ∪ errors| and m = |truth \\ errors| before this error.
    """
    before = g.cumsum(0).sub_(g)
    union = torch.sub(position, before).add_(total)
    missed = before.neg_().add_(total)
    share = torch.sub(union, g).add_(1).mul_(union)
    increase = union.sub_(missed).mul_(g).add_(missed).div_(share)
    if not total:
        # without any truth, the first error takes the loss from 0 to 1 and the others add nothing
        increase[0] = 1
    return increase
