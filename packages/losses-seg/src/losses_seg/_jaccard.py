"""Value and slope of the Lovasz extension of the Jaccard index, by one sort of the errors."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import torch
from torch import Tensor

from losses_core.utils import host
from losses_core.utils.autograd import Function
from losses_seg._jaccard_host import ALL, Wanted, rank
from losses_seg._ranks import Ranks
from losses_seg._targets import Target, hide, is_class, safe_labels


class Surrogate(NamedTuple):
    """The loss of each class, (N,C), or (C,) over the batch, and the amount of truth it is about."""

    value: Tensor
    true: Tensor


def class_surrogate(p: Tensor, goal: Target, per_image: bool, ranks: Ranks | None, wanted: Wanted = ALL) -> Surrogate:
    """Lovasz loss of each class with errors |p-g|; p (N,C,*S) is 0 where ignored."""
    with torch.no_grad():
        key, soft = _class_keys(p, goal)
        rise, constant, true = _jaccard(key, soft, per_image, ranks, wanted)
        error = p.flatten(2)
        if soft is not None:
            error = error - soft
            rise = rise * error.sign()
        value = (rise * error).sum(2)
    value = _Known.apply(p, value if per_image else value.sum(0), rise)
    if ranks is not None:
        value = ranks.total(value)
    return Surrogate(value + constant, true)


def hinge_surrogate(x: Tensor, true: Tensor, ignored: Tensor | None, per_image: bool, ranks: Ranks | None) -> Tensor:
    """Lovasz hinge loss (N,1), or (1,) over the batch, of logits (N,1,*S) and a bool truth."""
    with torch.no_grad():
        sign = 2 * true.to(x.dtype) - 1
        error = hide((1 - x * sign).clamp(min=0), ignored)
        whole = torch.int64 if x.dtype == torch.float64 else torch.int32
        key = _bits(torch.inf, x.dtype) - error.view(whole)
        # what is left out comes behind all others
        key = hide(key, ignored, torch.iinfo(whole).max).flatten(2)
        rise, _, _ = _jaccard(key, true.flatten(2).to(torch.uint8), per_image, ranks)
        value = (rise * error.flatten(2)).sum(2)
        slope = rise * (error > 0).flatten(2) * -sign.flatten(2)
    value = _Known.apply(x, value if per_image else value.sum(0), slope)
    return value if ranks is None else ranks.total(value)


class _Known(Function):
    """A value (N,C) or (C,) whose slope (N,C,M) is known already, and is all that is kept."""

    @staticmethod
    def forward(x: Tensor, value: Tensor, slope: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x, _, slope = inputs
        ctx.shape = x.shape
        ctx.save_for_backward(slope)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return (slope * grad.unsqueeze(-1)).view(ctx.shape), None, None


def _bits(value: float, dtype: torch.dtype) -> int:
    """A number as the integer with its bits: for numbers ≥ 0 these are in the same order."""
    return int.from_bytes(struct.pack(">d" if dtype == torch.float64 else ">f", value), "big")


def _class_keys(p: Tensor, goal: Target) -> tuple[Tensor, Tensor | None]:
    """Whole numbers (N,C,M) that ascend as the errors in [0,1] descend, ignored pixels last.

    Their lowest bit is the truth, so that one sort brings both in order, and torch sorts whole numbers in an eighth of
    the time. A soft truth does not fit and is returned beside them.
    """
    whole = torch.int64 if p.dtype == torch.float64 else torch.int32
    top = _bits(1.0, p.dtype)
    g, counted = goal.values, None if goal.ignored is None else ~goal.ignored
    soft = None
    if goal.index and not torch.compiler.is_compiling():
        label = safe_labels(g, goal.ignore_index)
        key = (top - p.view(whole)).mul_(2)
        at_label = (top - (1 - p.gather(1, label)).view(whole)).mul_(2)
        key.scatter_(1, label, at_label.add_(1 if counted is None else counted))
    elif goal.index or not g.is_floating_point():
        true = is_class(g, p.shape[1]) if goal.index else g == 1
        true = true if counted is None else true & counted
        key = (top - torch.where(true, 1 - p, p).view(whole)) * 2 + true
    else:
        soft = hide(g, goal.ignored).flatten(2)
        key = (top - (p.flatten(2) - soft).abs().view(whole)).view_as(p) * 2
    if goal.ignored is None:
        return key.flatten(2), soft
    # all bits but the lowest, as what is left out is no truth
    return key.bitwise_or_(goal.ignored.to(whole) * (torch.iinfo(whole).max - 1)).flatten(2), soft


def _jaccard(
    key: Tensor, truth: Tensor | None, per_image: bool, ranks: Ranks | None, wanted: Wanted = ALL
) -> tuple[Tensor, Tensor, Tensor]:
    """What each error adds to the Jaccard loss of its class, once all greater errors have been made.

    Args:
        key: (N,C,M), ascending as the errors descend; without ``truth`` its lowest bit is the truth.
        truth: (N,C,M).
        per_image: a ranking per image and class, or per class over the batch.
        ranks: the processes that hold the batch together.
        wanted: the classes for which it is asked.

    Returns:
        The increase (N,C,M), in that case negative where true, as the error is 1 - p there; and (N,C) or (C,): the sum
        of the increases where true in that case, else 0; the truth.
    """
    n, c, m = key.shape
    if ranks is not None:
        # each rank ranks the errors of all and takes what concerns its own: nothing travels in the backward
        key, start = ranks.rows(key)
        truth = None if truth is None else ranks.rows(truth)[0]
    if _ranked_on_host(key, truth):
        if host.on_host(key):
            increase, constant, true = rank(key, truth, per_image, wanted)
        else:
            from losses_seg import _opaque  # registering an operator takes milliseconds

            increase, constant, true = _opaque.rank_on_host(key, truth, per_image, *wanted)
        if ranks is not None:
            increase = increase[start : start + n]
        return increase, constant, true
    if per_image:
        increase, constant, true = _by_row(key.flatten(0, 1), None if truth is None else truth.flatten(0, 1))
        return increase.view(n, c, m), constant.view(n, c), true.view(n, c)
    row_truth = None if truth is None else truth.transpose(0, 1).flatten(1)
    increase, constant, true = _by_row(key.transpose(0, 1).flatten(1), row_truth)
    increase = increase.view(c, -1, m)
    if ranks is not None:
        increase = increase.index_select(1, start + torch.arange(n, device=key.device))
    return increase.transpose(0, 1).contiguous(), constant, true


def _ranked_on_host(key: Tensor, truth: Tensor | None) -> bool:
    if truth is not None and truth.is_floating_point():
        return False
    return host.compiling_for_host(key) or (host.on_host(key) and key.numel() > 0)


def _by_row(key: Tensor, truth: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """The same for rows (R,P)."""
    if torch.compiler.is_compiling() and not torch.compiler.is_exporting():
        from losses_seg import _opaque  # registering an operator takes milliseconds

        ranked, order = _opaque.sort_rows(key)
        return _increase(ranked, order, truth)
    if key.device.type != "cpu" or key.shape[0] == 0:
        return _increase(*key.sort(-1), truth)
    # row by row: torch sorts whole numbers by their digits in one dimension, and by comparisons in two
    each = [_increase(*key[r].sort(), None if truth is None else truth[r]) for r in range(key.shape[0])]
    increase, constant, true = (torch.stack(column) for column in zip(*each, strict=True))
    return increase, constant, true


def _increase(ranked: Tensor, order: Tensor, truth: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """The same for sorted keys and where each stood, (R,P) or (P,)."""
    floating = torch.float64 if ranked.dtype == torch.int64 else torch.float32
    g = ranked & 1 if truth is None else truth.gather(-1, order)
    exact = torch.int32 if not g.is_floating_point() else g.dtype if g.device.type == "mps" else torch.float64
    before = g.cumsum(-1, dtype=exact)
    total = g.sum(-1, keepdim=True, dtype=exact)  # not the last of the above, as there may be none
    before = before - g
    # |truth ∪ errors| and |truth \ errors| before this one; counts stay whole numbers up to here
    union = total + (torch.arange(ranked.shape[-1], device=ranked.device, dtype=torch.int32) - before)
    g, missed, union = g.to(floating), (total - before).to(floating), union.to(floating)
    increase = (missed * (1 - g) + g * union) / (union * (union + 1 - g))
    # without any truth, the first error takes the loss from 0 to 1 and the others add nothing
    increase = torch.where(union == 0, 1, increase)
    constant = torch.zeros_like(increase[..., :0].sum(-1))
    if truth is None:
        constant = (increase * g).sum(-1)
        increase = increase * (1 - 2 * g)
    return torch.zeros_like(increase).scatter_(-1, order, increase), constant, total.squeeze(-1).to(floating)
