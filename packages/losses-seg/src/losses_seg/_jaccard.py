"""The Lovasz extension of the Jaccard loss: its gradient by one sort of the errors, and the mean over classes."""

from __future__ import annotations

import struct

import torch
from torch import Tensor

from losses_core._blocks import block_size, ranges
from losses_core.utils.stable import ratio
from losses_seg._ops import sort_rows
from losses_seg._sync import SyncGroup
from losses_seg._targets import Classes, masked, only_present, selected_classes

_INFINITY = [int.from_bytes(struct.pack(code, torch.inf), "big") for code in (">f", ">d")]
"""The bits of infinity in float32 and in float64."""


def surrogate(
    error: Tensor, truth: Tensor, ignored: Tensor | None, per_image: bool, group: SyncGroup | None
) -> tuple[Tensor, Tensor]:
    """The Lovasz extension of the Jaccard loss of each class.

    Args:
        error: (N,C,P), prediction minus truth: 0 where ignored, and of a bool truth not positive where that is true.
        truth: (N,C,P), bool, or numbers in [0,1].
        ignored: bool (N,1,P) or (N,C,P); None: nothing is ignored.
        per_image: of each image, or of the batch.
        group: the processes that hold the batch together.

    Returns:
        The loss and the sum of the truth, (N,C), or (1,C) of the batch.
    """
    key = error_key(error.detach().abs(), ignored)
    start, size = None, error.shape[0]
    if group is not None:  # each rank sorts the errors of all and uses those of its own: the backward sends nothing
        key, truth, start = _gathered(key, truth, group)
    shape = key.shape
    order = sort_rows(to_rows(key, per_image))[1]
    gradient, total = jaccard_gradient(order, to_rows(truth, per_image), error.dtype)
    gradient = from_rows(gradient, shape, per_image)
    if start is not None:
        gradient = gradient.index_select(0, start + torch.arange(size, device=error.device))
    value = (gradient * (error.abs() if truth.dtype.is_floating_point else error)).sum(2)
    if not per_image:
        value = value.sum(0, keepdim=True)
    return value if group is None else group.sum(value), total.view(-1, shape[1])


def _gathered(key: Tensor, truth: Tensor, group: SyncGroup) -> tuple[Tensor, Tensor, Tensor]:
    """Key and truth of all ranks, and the index of the first own row."""
    if truth.dtype.is_floating_point:
        key, start = group.gather(key)
        return key, group.gather(truth)[0], start
    key, start = group.gather(torch.where(truth, ~key, key))  # the truth travels as the sign
    truth = key < 0
    return torch.where(truth, ~key, key), truth, start


def to_rows(x: Tensor, per_image: bool) -> Tensor:
    """(N,C,P) to (N·C,P), or of the batch to (C,N·P)."""
    return x.flatten(0, 1) if per_image else x.transpose(0, 1).flatten(1)


def from_rows(x: Tensor, shape: torch.Size, per_image: bool) -> Tensor:
    """The reverse of `to_rows`, with the shape (N,C,P)."""
    n, c, p = shape
    return x.view(n, c, p) if per_image else x.view(c, n, p).transpose(0, 1)


def error_key(error: Tensor, ignored: Tensor | None) -> Tensor:
    """Whole numbers that ascend as errors ≥ 0 descend, with what is ignored behind all others.

    They are the bits of the errors, which are in the same order: torch sorts whole numbers in an eighth of the time.
    """
    bits, largest = (torch.int64, _INFINITY[1]) if error.dtype == torch.float64 else (torch.int32, _INFINITY[0])
    return masked(largest - error.view(bits), ignored, torch.iinfo(bits).max)


def jaccard_gradient(order: Tensor, truth: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """What each error adds to the Jaccard loss, once all greater errors have been made (Berman et al., algorithm 1).

    Args:
        order: (R,P), index of each error in descending order; of `error_key`, in ascending order.
        truth: (R,P), bool, or numbers in [0,1].
        dtype: of the increase.

    Returns:
        The increase (R,P), of a bool truth with a minus where that is true: then it is the derivative with respect to
        prediction minus truth; and the sum of the truth, (R,1).
    """
    if truth.dtype.is_floating_point:
        return _soft_gradient(order, truth)
    result = torch.empty_like(order, dtype=dtype)
    missed = total = truth.sum(-1, keepdim=True, dtype=torch.int32)
    for start, end in ranges(order.shape[1], max(1, block_size(result) // max(1, order.shape[0]))):
        part = order[:, start:end]
        true = truth.gather(-1, part)
        # |truth \ errors| after this error, and |truth ∪ errors| - 1; counts stay whole numbers up to here
        found = true.cumsum(-1, dtype=torch.int32)
        increase = torch.sub(missed, found, out=torch.empty_like(part, dtype=dtype))
        if end < order.shape[1]:
            missed = missed - found[:, -1:]
        union = increase + torch.arange(start, end, device=order.device, dtype=dtype)
        # with u = |truth ∪ errors| before this error: -1/u where true, else m / (u (u+1))
        increase.div_(union).masked_fill_(true, -1).div_(union.add_(1))
        if start == 0:
            increase[:, :1].masked_fill_(total == 0, 1)  # without any truth, the first error takes the loss from 0 to 1
        result.scatter_(-1, part, increase)
    return result, total


def _soft_gradient(order: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    exact = truth.dtype if truth.device.type == "mps" else torch.float64
    g = truth.to(exact).gather(-1, order)
    total = g.sum(-1, keepdim=True)
    missed = total - g.cumsum(-1) + g
    union = missed + torch.arange(g.shape[-1], device=g.device)
    increase = ratio(missed * (1 - g) + g * union, union * (union + 1 - g), otherwise=1).to(truth.dtype)
    return torch.zeros_like(increase).scatter(-1, order, increase), total.to(truth.dtype)


def truth_of(target: Tensor, ignored: Tensor | None, dtype: torch.dtype) -> Tensor:
    """A target in the shape of pred as bool, or numbers if it is soft; False or 0 where ignored."""
    return masked(target.to(dtype) if target.dtype.is_floating_point else target == 1, ignored)


def class_share(
    total: Tensor, classes: Classes, ignore_index: int | None, class_weight: Tensor | None, dtype: torch.dtype
) -> Tensor | float:
    """The share of each class in the mean over classes (R,C), 0 if it is not counted; a number where all are alike.

    Args:
        total: sum of the truth of each class (R,C).
        classes: as of ``lovasz_loss``.
        ignore_index: as of ``lovasz_loss``.
        class_weight: (C,).
        dtype: of the result.
    """
    counted = selected_classes(total.shape[1], total.device, classes, ignore_index)
    if only_present(classes):
        present = total > 0
        counted = present if counted is None else counted & present
    if counted is None and class_weight is None:
        return 1 / total.shape[1]
    if counted is not None:
        counted = counted.expand_as(total)
    if class_weight is None:
        weight = counted.to(dtype)  # type: ignore[union-attr]  # it is there
    else:
        weight = class_weight.to(dtype).expand_as(total)
        weight = weight if counted is None else weight.where(counted, 0)
    whole = weight.sum(-1, keepdim=True)
    return weight / whole.masked_fill(whole == 0, 1)


def mean_over_classes(value: Tensor, share: Tensor | float) -> Tensor:
    """Σ share · value; a class without a share may be anything."""
    if isinstance(share, float):
        return value.mean(-1)
    return (share * value.masked_fill(share == 0, 0)).sum(-1)
