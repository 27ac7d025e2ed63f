"""Logits to the sums of overlap losses and back on the host: one pass each way, in parts that stay in a cache."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from losses_core.utils import host
from losses_seg._targets import held, hide, left_out

_LOG2E = 1 / math.log(2)
_SAFE = 2.0**32
"""Between it and its inverse, a sum of exponentials was taken of logits so small that their maximum need not be
subtracted: that costs no digit of the probabilities that count."""

_BLOCK = 1 << 19
"""Elements that are handled together: with more, temporaries leave the cache, with fewer, calls are what takes time."""


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


def blocks(*tensors: Tensor) -> Iterator[tuple[slice, int, tuple[Tensor, ...]]]:
    """Tensors of N images, the first of them (N,C,P), in parts: (n,C,P), or (1,C,p) of one image.

    Before each, which images it is, and its first pixel.
    """
    n, c, pixels = tensors[0].shape
    images = max(1, _BLOCK // (c * pixels))
    columns = pixels
    if c * pixels > _BLOCK:
        # in equal parts, each of whole vectors and chunks
        columns = -(-pixels // -(-c * pixels // _BLOCK))
        columns += -columns % _CHUNK
    for first in range(0, n, images):
        rows = slice(first, first + images)
        for start in range(0, pixels, columns):
            yield rows, start, tuple(tensor[rows, :, start : start + columns] for tensor in tensors)


def find_sums(x: Tensor, values: Tensor, plan: Plan) -> Found:
    """The sums of logits and a target, without a gradient.

    Args:
        x: logits (N,C,*S), not empty.
        values: labels (N,*S), or a dense target (N,C,*S).
        plan: how to read them.
    """
    x = x.flatten(2)
    return (_of_labels if plan.labels else _of_dense)(x if x.is_contiguous() else x.contiguous(), values, plan)


def _of_labels(x: Tensor, values: Tensor, plan: Plan) -> Found:
    n, c, pixels = x.shape
    hidden = held(values.flatten(1), plan.ignore_index)
    labels = indices(values, hidden, x)
    p, pixel = torch.empty(x.shape, dtype=x.dtype), torch.arange(pixels)
    masks = [] if hidden is None else [hidden.unsqueeze(1)]
    inter, pred, true = [], [], []
    for images, start, (logits, kept, given, *mask) in blocks(x, p, labels.unsqueeze(1), *masks):
        ignored = mask[0] if mask else None
        part = activate(logits, ignored, kept, plan.softmax)
        place = places(given, pixel, start, c)
        inter.append(
            by_label(p[images].view(-1).index_select(0, place.view(-1)).view(given.shape[0], -1), given.squeeze(1), c)
        )
        pred.append(power(part, plan.exponent).sum(2))
        true.append(_count(given, ignored, c).to(x.dtype))
    of_inter, of_pred, of_true = _added([*inter, *pred, *true], 3, n).unbind()
    return Found(of_inter, of_pred, of_true, p, None if hidden is None else ~hidden.all(1, keepdim=True))


def _of_dense(x: Tensor, values: Tensor, plan: Plan) -> Found:
    n = x.shape[0]
    g = values.flatten(2)
    p = torch.empty(x.shape, dtype=x.dtype)
    inter, pred, true, seen = [], [], [], []
    for _, _, (logits, kept, given) in blocks(x, p, g):
        # looked for here, where it is in a cache
        ignored = left_out(given, plan.ignore_index, plan.softmax)
        part = activate(logits, ignored, kept, plan.softmax)
        here = hide(given.to(part.dtype), ignored)
        soft = given.is_floating_point()
        pred.append(power(part, plan.exponent).sum(2))
        inter.append((torch.minimum(part, here) if soft and plan.exponent == 1 else part * here).sum(2))
        true.append(power(here, plan.exponent if soft else 1).sum(2))
        seen.append((None if ignored is None else ~ignored.all(2), true[-1]))
    of_inter, of_pred, of_true = _added([*inter, *pred, *true], 3, n).unbind()
    if all(flags is None for flags, _ in seen):
        return Found(of_inter, of_pred, of_true, p, None)
    whole = [torch.ones_like(some) if flags is None else flags.to(some.dtype).expand_as(some) for flags, some in seen]
    return Found(of_inter, of_pred, of_true, p, _added(whole, 1, n)[0] > 0)


def _added(parts: list[Tensor], kinds: int, images: int) -> Tensor:
    """Sums (n,C) of the parts of all images, one kind after the other, to (kinds,N,C)."""
    # in a tree, as it were: a part has a quarter of a million pixels at most
    return torch.cat(parts).view(kinds, images, -1, parts[0].shape[1]).sum(2)


def indices(values: Tensor, hidden: Tensor | None, x: Tensor) -> Tensor:
    """Labels as int64 (N,P), 0 where ignored, all of them indices into axis 1 of ``x``."""
    labels = hide(values.flatten(1).long(), hidden)
    low, high = labels.aminmax()
    if low.item() < 0 or high.item() >= x.shape[1]:
        x.gather(1, labels.unsqueeze(1))  # says what is wrong
    return labels


def places(labels: Tensor, pixel: Tensor, start: int, classes: int) -> Tensor:
    """(n,1,p): where the labels of the pixels from ``start`` on stand in (n,C,P), in one dimension.

    That is the fastest to gather by.
    """
    images, _, number = labels.shape
    places = torch.add(pixel[start : start + number], labels, alpha=len(pixel))
    if images > 1:
        size = classes * len(pixel)
        places.add_(torch.arange(0, images * size, size).view(-1, 1, 1))
    return places


def activate(x: Tensor, ignored: Tensor | None, out: Tensor, softmax: bool) -> Tensor:
    """Probabilities, 0 where ignored; in ``out`` as well."""
    if not softmax:
        torch.sigmoid(x, out=out)
        return out if ignored is None else host.zero_where_(out, ignored)
    p = _softmax(x, ignored)
    if ignored is not None:
        host.zero_where_(p, ignored)
    out.copy_(p)
    return p


def _softmax(x: Tensor, ignored: Tensor | None) -> Tensor:
    # on a CPU, powers of 2 take a third of the time of powers of e
    powers = torch.mul(x, _LOG2E)
    if ignored is not None:
        # before anything is looked at: what stands there must not decide how the others are computed
        host.zero_where_(powers, ignored)
    total = powers.exp2_().sum(1, keepdim=True)
    low, high = total.aminmax()
    if low.item() > 1 / _SAFE and high.item() < _SAFE:
        return powers.mul_(total.reciprocal_())
    if x.shape[0] == 1:
        return torch.softmax(x, 1)
    # nor what stands in one image, how another one is
    masks = [None] * x.shape[0] if ignored is None else ignored.split(1)
    return torch.cat([_softmax(image, mask) for image, mask in zip(x.split(1), masks, strict=True)])


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
    factor = (of_pred * plan.exponent).unsqueeze(2)
    if not plan.labels:
        share = of_inter.unsqueeze(2)
        for images, _, (part, slope, given) in blocks(p, result, values.flatten(2)):
            of_part = _dense_slope(part, given, factor[images], share[images], plan.exponent)
            if plan.softmax:
                of_part.mul_(part)
                torch.addcmul(of_part, part, of_part.sum(1, keepdim=True), value=-1, out=slope)
            else:
                torch.ops.aten.sigmoid_backward(of_part, part, grad_input=slope)
        return result
    labels = indices(values, held(values.flatten(1), plan.ignore_index), p)
    pixel = torch.arange(p.shape[2])
    for images, start, (part, slope, given) in blocks(p, result, labels.unsqueeze(1)):
        # p dL/dp, from which both activations go on; but for what the label adds to it
        product = power(part, plan.exponent) * factor[images]
        place = places(given, pixel, start, p.shape[1]).view(-1)
        probability = p[images].view(-1).index_select(0, place).view_as(given)
        addition = of_inter[images].gather(1, given.squeeze(1)).unsqueeze(1).mul_(probability)
        if plan.softmax:
            torch.addcmul(product, part, product.sum(1, keepdim=True).add_(addition), value=-1, out=slope)
        else:
            torch.addcmul(product, part, product, value=-1, out=slope)
            addition.addcmul_(addition, probability, value=-1)
        result[images].view(-1).scatter_add_(0, place, addition.view(-1))
    return result


def _dense_slope(p: Tensor, given: Tensor, factor: Tensor, share: Tensor, exponent: float) -> Tensor:
    """dL/dp of a dense target, a new tensor."""
    soft, g = given.is_floating_point(), given.to(p.dtype)
    if soft and exponent == 1:
        # 1/2 where p = g, so that a perfect soft prediction is a stationary point
        g = (g - p).sign_().add_(1).mul_(0.5)
    slope = g * share
    return slope.add_(factor) if exponent == 1 else slope.addcmul_(power(p, exponent - 1), factor)


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
