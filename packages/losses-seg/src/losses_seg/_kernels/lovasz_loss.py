"""Kernels of the Lovasz losses: some classes at a time, so that what a sort needs is small beside the logits."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import Tensor

from losses_core._blocks import block_size, ranges, sample_block_size
from losses_core.kernels import kernel
from losses_seg._activation import activate
from losses_seg._jaccard import (
    class_share,
    error_key,
    from_rows,
    jaccard_gradient,
    mean_over_classes,
    to_rows,
    truth_of,
)
from losses_seg._ops import sort_rows
from losses_seg._sync import SyncGroup
from losses_seg._targets import Activation, Classes, class_mask, ignored_mask, is_labels, masked, selected_ids
from losses_seg.lovasz_loss import lovasz_hinge_loss, lovasz_loss


def _one_rank(pred: Tensor, target: Tensor, *, group: SyncGroup | None, **_: Any) -> bool:
    return group is None


@kernel(lovasz_loss, bound=1.0, supports=_one_rank)
def lovasz(
    x: Tensor,
    target: Tensor,
    *,
    needs_grad: bool,
    per_image: bool,
    ignore_index: int | None,
    classes: Classes,
    class_weight: Tensor | None,
    activation: Activation,
    group: SyncGroup | None,
) -> tuple[Tensor, Tensor | None]:
    """The loss (N,) or 0-d, and the gradient of its sum."""
    shape, labels = x.shape, is_labels(x, target)
    x, target = x.flatten(2), target.flatten(1 if labels else 2)
    ignored = ignored_mask(x, target, ignore_index, activation)
    n, c, s = x.shape
    # the probabilities; once its class has been sorted, p times the derivative with respect to p
    grad = x.new_empty(x.shape, dtype=torch.float64 if x.dtype == torch.float64 else torch.float32)
    for images, pixels in _blocks(x):
        activate(x[images, :, pixels].to(grad.dtype), activation, out=grad[images, :, pixels])
    grad = grad if ignored is None else grad.masked_fill_(ignored, 0)
    ids, size = selected_ids(c, classes, ignore_index), block_size(x, temporaries=8)
    value, total = grad.new_zeros(2, n if per_image else 1, c)
    for images in (slice(*i) for i in ranges(n, max(1, size // max(1, s)))) if per_image else (slice(None),):
        for some in _parts(ids, max(1, size // max(1, grad[images, 0].numel()))):
            g = class_mask(target[images], some.stop, some.start) if labels else target[images, some]
            p, hidden = grad[images, some], _select(ignored, images, some)
            value[images, some], total[images, some] = _rank(p, g, hidden, per_image, activation == "none")
    share = class_share(total, classes, ignore_index, class_weight, grad.dtype)
    value = mean_over_classes(value, share)
    value = value if per_image else value[0]
    if not needs_grad:
        return value, None
    for others in _parts(set(range(c)) - ids, c):
        grad[:, others] = 0
    grad.mul_(share if isinstance(share, float) else share.unsqueeze(2))
    if activation == "none":
        return value, (grad if ignored is None else grad.masked_fill_(ignored, 0)).view(shape)
    for images, pixels in _blocks(x):
        part = grad[images, :, pixels]
        p = activate(x[images, :, pixels].to(grad.dtype), activation)
        p = p if ignored is None else p.masked_fill_(ignored[images, :, pixels], 0)
        part.addcmul_(p, part.sum(1, keepdim=True) if activation == "softmax" else part, value=-1)
    return value, grad.view(shape)


def _rank(p: Tensor, target: Tensor, ignored: Tensor | None, per_image: bool, of_pred: bool) -> tuple[Tensor, Tensor]:
    """The loss and the sum of the truth of some classes; p becomes its derivative, or that times p."""
    truth = truth_of(target, ignored, p.dtype)
    error = torch.add(p, truth, alpha=-1)
    # where the error is 0, its rank matters to the derivative alone
    # the key is a temporary, not a name: it is not alive beside what follows
    order = sort_rows(to_rows(error_key(error.abs(), ignored if of_pred else None), per_image))[1]
    increase, total = jaccard_gradient(order, to_rows(truth, per_image), error.dtype)
    del order
    increase = from_rows(increase, p.shape, per_image)
    if truth.dtype.is_floating_point:
        increase = increase * error.sign()
    each = error.mul_(increase).sum(2)
    if of_pred:
        p.copy_(increase)
    else:
        p.mul_(increase)
    return each if per_image else each.sum(0, keepdim=True), total.view(-1, p.shape[1])


def _select(mask: Tensor | None, images: slice, channels: slice) -> Tensor | None:
    """A part of a mask (N,1,P) or (N,C,P)."""
    return None if mask is None else mask[images] if mask.shape[1] == 1 else mask[images, channels]


def _blocks(x: Tensor) -> Iterator[tuple[slice, slice]]:
    """Images and pixels of each block of (N,C,P)."""
    n, c, s = x.shape
    size = sample_block_size(x, temporaries=4)
    for images in ranges(n, max(1, size // max(1, c * s))):
        for pixels in ranges(s, max(1, size // c)):
            yield slice(*images), slice(*pixels)


def _parts(ids: Collection[int], size: int) -> Iterator[slice]:
    """Consecutive classes, at most ``size`` at a time."""
    first = -1
    for c in sorted(ids):
        first = c if first < 0 else first
        if c + 1 not in ids:
            for start, end in ranges(c + 1 - first, size):
                yield slice(first + start, first + end)
            first = -1


@kernel(lovasz_hinge_loss, bound=1.0, supports=_one_rank)
def lovasz_hinge(
    x: Tensor,
    target: Tensor,
    *,
    needs_grad: bool,
    per_image: bool,
    ignore_index: int | None,
    group: SyncGroup | None,
) -> tuple[Tensor, Tensor | None]:
    """The loss (N,) or 0-d, and the gradient of its sum."""
    shape, ignored = x.shape, ignored_mask(x, target, ignore_index, "none")
    x, truth = (t.flatten(1) if per_image else t.flatten().unsqueeze(0) for t in (x, masked(target > 0.5, ignored)))
    ignored = None if ignored is None else ignored.view(x.shape)
    error = _hinge_error(x, truth, ignored)
    increase, _ = jaccard_gradient(sort_rows(error_key(error, None))[1], truth, error.dtype)
    grad = increase.masked_fill(error == 0, 0).view(shape) if needs_grad else None
    value = error.mul_(increase).abs_().sum(1)
    return value if per_image else value[0], grad


def _hinge_error(x: Tensor, truth: Tensor, ignored: Tensor | None) -> Tensor:
    """max(0, 1 - x s) with s = 1 where true, else -1; 0 where ignored."""
    x = x.to(torch.float64 if x.dtype == torch.float64 else torch.float32)
    error = torch.addcmul(x, x, truth.to(x.dtype), value=-2).add_(1).clamp_(min=0)
    return error if ignored is None else error.masked_fill_(ignored, 0)
