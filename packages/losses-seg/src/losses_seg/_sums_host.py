"""Logits to the sums of overlap losses and back on the host: one pass each way, some images at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from losses_core.utils import host
from losses_seg._targets import held, hide, left_out


class Plan(NamedTuple):
    """How to read logits and a target.

    Attributes:
        softmax: over the classes, or a sigmoid of each.
        labels: whether the target holds class indices.
        exponent: e ≥ 1 of the sums of probabilities and soft truth.
        ignore_index: the label of what is left out.
    """

    softmax: bool
    labels: bool
    exponent: float
    ignore_index: int


class Found(NamedTuple):
    """The sums of each image and class.

    Attributes:
        inter: Σ p g, or Σ min(p,g) for a soft target and exponent 1, (N,C).
        pred: Σ p^e, (N,C).
        true: Σ g^e, (N,C).
        p: the probabilities (N,C,P), 0 where ignored.
        seen: whether there is a pixel that is not ignored, (N,1) or (N,C); None: nothing is ignored.
    """

    inter: Tensor
    pred: Tensor
    true: Tensor
    p: Tensor
    seen: Tensor | None


def blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Some images of tensors of N images at a time; the first tensor, (N,C,P), decides how many.

    As many as fit into a cache, and one at least: pixels are not parted, as calls would then be what takes time.
    """
    images = max(1, 4 * host.BLOCK // max(1, tensors[0][0].numel()))
    return zip(*(tensor.split(images) for tensor in tensors), strict=True)


def find_sums(x: Tensor, values: Tensor, plan: Plan) -> Found:
    """The sums of logits and a target, without a gradient.

    Args:
        x: logits (N,C,*S), not empty.
        values: labels (N,*S), or a dense target (N,C,*S).
        plan: how to read them.
    """
    return (_of_labels if plan.labels else _of_dense)(x.flatten(2), values, plan)


def _of_labels(x: Tensor, values: Tensor, plan: Plan) -> Found:
    hidden = held(values.flatten(1), plan.ignore_index)
    labels = indices(values, hidden, x)
    p = torch.empty(x.shape, dtype=x.dtype)
    masks = [] if hidden is None else [hidden.unsqueeze(1)]
    sums = []
    for logits, part, given, *mask in blocks(x, p, labels.unsqueeze(1), *masks):
        ignored = mask[0] if mask else None
        activate(logits, ignored, part, plan.softmax)
        of_label = by_label(part.gather(1, given).squeeze(1), given.squeeze(1), x.shape[1])
        true = _count(given, ignored, x.shape[1]).to(x.dtype)
        sums.append(torch.stack([of_label, power_sums(part, plan.exponent), true]))
    inter, pred, true = torch.cat(sums, 1).unbind()
    return Found(inter, pred, true, p, None if hidden is None else ~hidden.all(1, keepdim=True))


def _of_dense(x: Tensor, values: Tensor, plan: Plan) -> Found:
    p = torch.empty(x.shape, dtype=x.dtype)
    soft = values.is_floating_point()
    sums, seen = [], []
    for logits, part, given in blocks(x, p, values.flatten(2)):
        # looked for here, where it is in a cache
        ignored = left_out(given, plan.ignore_index, plan.softmax)
        activate(logits, ignored, part, plan.softmax)
        here = hide(given.to(part.dtype), ignored)
        inter = torch.minimum(part, here).sum(2) if soft and plan.exponent == 1 else _dots(part, here)
        true = power_sums(here, plan.exponent if soft else 1)
        sums.append(torch.stack([inter, power_sums(part, plan.exponent), true]))
        seen.append((None if ignored is None else ~ignored.all(2), true))
    inter, pred, true = torch.cat(sums, 1).unbind()
    if all(flags is None for flags, _ in seen):
        return Found(inter, pred, true, p, None)
    whole = [torch.ones_like(of, dtype=torch.bool) if flags is None else flags.expand_as(of) for flags, of in seen]
    return Found(inter, pred, true, p, torch.cat(whole))


def indices(values: Tensor, hidden: Tensor | None, x: Tensor) -> Tensor:
    """Labels as int64 (N,P), 0 where ignored, all of them indices into axis 1 of ``x``."""
    labels = hide(values.flatten(1).long(), hidden)
    low, high = labels.aminmax()
    if low.item() < 0 or high.item() >= x.shape[1]:
        x.gather(1, labels.unsqueeze(1))  # says what is wrong
    return labels


_MANY = 32
"""Classes from which on torch's softmax along an inner axis takes longer than the passes it is made of."""


def activate(x: Tensor, ignored: Tensor | None, out: Tensor, softmax: bool) -> None:
    """Probabilities, 0 where ignored, in ``out``."""
    if softmax and x.shape[1] < _MANY:
        torch.softmax(x, 1, out=out)
    elif softmax:
        out.mul_(host.softmax(x, out)[1])
    else:
        torch.sigmoid(x, out=out)
    if ignored is not None:
        host.zero_where_(out, ignored)


def find_slope(p: Tensor, values: Tensor, of_inter: Tensor, of_pred: Tensor, plan: Plan) -> Tensor:
    """The derivative with respect to the logits (N,C,P).

    Args:
        p: probabilities (N,C,P), 0 where ignored: so is what is returned.
        values: labels (N,*S), or a dense target (N,C,*S).
        of_inter: derivative with respect to Σ p g, (N,C).
        of_pred: with respect to Σ p^e, (N,C).
        plan: how to read them.
    """
    result = torch.empty(p.shape, dtype=p.dtype)
    share, factor = of_inter.unsqueeze(2), (of_pred * plan.exponent).unsqueeze(2)
    if plan.labels:
        given = indices(values, held(values.flatten(1), plan.ignore_index), p).unsqueeze(1)
    else:
        given = values.flatten(2)
    for part, goal, its_share, its_factor, out in blocks(p, given, share, factor, result):
        if plan.labels and plan.softmax and len(part) == 1:
            # by hand, as torch's backward of a softmax along an inner axis takes longer with many classes
            _label_slope(part, goal, its_factor, its_share, plan.exponent, out)
            continue
        if plan.labels:
            of_part = its_factor.expand_as(part).contiguous()
            if plan.exponent != 1:
                of_part.mul_(power(part, plan.exponent - 1))
            of_part.scatter_add_(1, goal, its_share.squeeze(2).gather(1, goal.squeeze(1)).unsqueeze(1))
        else:
            of_part = _dense_slope(part, goal, its_factor, its_share, plan.exponent)
        if plan.softmax:
            torch.ops.aten._softmax_backward_data(of_part, part, 1, part.dtype, grad_input=out)
        else:
            torch.ops.aten.sigmoid_backward(of_part, part, grad_input=out)
    return result


def _label_slope(p: Tensor, given: Tensor, factor: Tensor, share: Tensor, exponent: float, out: Tensor) -> None:
    """That of one image (1,C,P) with labels: s_j - p_j Σ s with s_j = p_j (f_j p_j^(e-1) + b_j 1[j=y])."""
    at_label = p.gather(1, given).mul_(share.view(-1)[given])
    if exponent == 1:
        sums = _weighted_sums(p, factor).add_(at_label)
        torch.sub(factor, sums, out=out).mul_(p)
    else:
        torch.pow(p, exponent, out=out)
        sums = _weighted_sums(out, factor).add_(at_label)
        out.mul_(factor).addcmul_(p, sums, value=-1)
    out.scatter_add_(1, given, at_label)


def _weighted_sums(p: Tensor, factor: Tensor) -> Tensor:
    """Σ over the classes of one image, (1,1,P), in all digits whatever the precision of matrix products is set to."""
    return torch.mv(p[0].mT, factor.view(-1)).view(1, 1, -1)


def _dense_slope(p: Tensor, given: Tensor, factor: Tensor, share: Tensor, exponent: float) -> Tensor:
    """dL/dp of a dense target, a new tensor."""
    soft, g = given.is_floating_point(), given.to(p.dtype)
    if soft and exponent == 1:
        # 1/2 where p = g, so that a perfect soft prediction is a stationary point
        g = (g - p).sign_().add_(1).mul_(0.5)
    slope = g * share
    return slope.add_(factor) if exponent == 1 else slope.addcmul_(power(p, exponent - 1), factor)


def power_sums(p: Tensor, exponent: float) -> Tensor:
    """Σ p^e over the pixels, (n,C)."""
    return _dots(p, p) if exponent == 2 else power(p, exponent).sum(2)


_ROW = 1 << 12
"""Pixels from which on a product of two rows as a call of its own is worth it."""


def _dots(a: Tensor, b: Tensor) -> Tensor:
    """Σ a b over the pixels, (n,C)."""
    if a.shape[2] < _ROW:
        return (a * b).sum(2)
    rows = zip(a.flatten(0, 1), b.flatten(0, 1), strict=True)
    return torch.stack([host.dot(*row) for row in rows]).view(a.shape[:2])


def power(p: Tensor, exponent: float) -> Tensor:
    """p^e, for whole e ≤ 2 without a power."""
    return p if exponent == 1 else p * p if exponent == 2 else p.pow(exponent)


_CHUNK = 512


def by_label(values: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Sum (N,P) values by class, to (N,C).

    In many sums that are added up at the end: adding a quarter of a million numbers one after the other in float32 is
    0.1 % off.
    """
    missing = -values.shape[1] % _CHUNK
    if missing:
        values = torch.nn.functional.pad(values, (0, missing))
        labels = torch.nn.functional.pad(labels, (0, missing))
    # neighbours are of one class mostly, and wait for each other where they go into one sum
    chunks = values.unflatten(1, (_CHUNK, -1))
    sums = values.new_zeros(chunks.shape[0], classes, chunks.shape[2])
    return sums.scatter_add_(1, labels.view_as(chunks), chunks).sum(2)


def _count(labels: Tensor, ignored: Tensor | None, classes: int) -> Tensor:
    """(n,C): how many labels (n,1,p), which are in range, there are of each class."""
    images = labels.shape[0]
    if images > 1:
        labels = labels + torch.arange(0, classes * images, classes).view(-1, 1, 1)
    if ignored is not None:
        labels = labels.masked_fill(ignored, images * classes)
    return torch.bincount(labels.flatten(), minlength=images * classes)[: images * classes].view(images, classes)
