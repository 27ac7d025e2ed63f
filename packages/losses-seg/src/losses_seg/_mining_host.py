"""The losses of hard pixels on the host: in one pass that keeps the gradient, in parts that stay in a cache."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core.utils import host
from losses_core.utils.autograd import Function
from losses_core.utils.deferred import Deferred
from losses_core.utils.weight_reduce import Unreduced, total_normalizer
from losses_seg._mining import Rule
from losses_seg._sums_host import activate, blocks, indices
from losses_seg._targets import held, hide


class Hard(NamedTuple):
    """The hard pixels of a batch.

    Attributes:
        loss: of each place, times its weight; 0 where it is not kept.
        normalizer: the weight of each place; 0 where it is not kept.
        gap: the derivative of the loss at each logit: p - 1 at the truth, and p elsewhere, times the weight.
        labels: for several classes (N,1,*S), int64, 0 where ignored.
        class_weight: (C,).
    """

    loss: Tensor
    normalizer: Tensor
    gap: Tensor
    labels: Tensor | None = None
    class_weight: Tensor | None = None


class HardPixels(Deferred):
    """The loss of `Hard` pixels of the logits ``x``."""

    def __init__(self, x: Tensor, found: Hard) -> None:
        self.x, self.found = x, found

    @property
    def summable(self) -> bool:
        return True

    def unreduced(self) -> Unreduced:
        return Unreduced(_OfHard.apply(self.x, self.found, None)[0], self.found.normalizer)

    def total(self, scale: float | Tensor) -> Tensor:
        return _OfHard.apply(self.x, self.found, scale)[0]  # type: ignore[no-any-return]

    def normalizer(self) -> float | Tensor:
        return total_normalizer(self.found.loss, self.found.normalizer)


@torch.no_grad()
def hard_labels(
    x: Tensor, labels: Tensor, skip: Tensor | None, class_weight: Tensor | None, ignore_index: int, by: Rule
) -> Hard:
    """-w log p of the label where it is hard.

    Args:
        x: logits (N,C,*S), not empty.
        labels: (N,*S).
        skip: bool (N,*S), true where a pixel is left out as well.
        class_weight: (C,).
        ignore_index: label whose pixels are left out.
        by: which are hard.
    """
    logits = x.flatten(2)
    n, _, pixels = logits.shape
    hidden = held(labels.flatten(1), ignore_index)
    safe = indices(labels, hidden, logits)
    if skip is not None:
        hidden = skip.flatten(1) if hidden is None else hidden | skip.flatten(1)
    gap, loss = torch.empty(logits.shape, dtype=x.dtype), torch.empty(n, 1, pixels, dtype=x.dtype)
    masks = [] if hidden is None else [hidden.unsqueeze(1)]
    for part, p, value, given, *mask in blocks(logits, gap, loss, safe.unsqueeze(1), *masks):
        activate(part, mask[0] if mask else None, p, softmax=True)
        at_label = p.gather(1, given)
        for ignored in mask:
            at_label.masked_fill_(ignored, 1)
        p.scatter_(1, given, at_label - 1)
        torch.log(at_label, out=value).neg_()
        if not at_label.amin().item() > host.SOUND:  # so that NaN counts as unsound
            exact = -F.log_softmax(part, 1).gather(1, given)
            value.copy_(torch.where(at_label > host.SOUND, value, exact))
    normalizer = _easy(loss.view(-1), None if hidden is None else hidden.flatten(), by).neg_().add_(1).view_as(loss)
    if class_weight is not None:
        normalizer.mul_(class_weight.index_select(0, safe.flatten()).view_as(normalizer))
        loss.masked_fill_(normalizer == 0, 0)
    loss.mul_(normalizer)
    gap.mul_(normalizer)
    shape = labels.shape
    return Hard(loss.view(shape), normalizer.view(shape), gap.view(x.shape), safe.view(shape).unsqueeze(1), class_weight)


@torch.no_grad()
def hard_binary(x: Tensor, t: Tensor, skip: Tensor | None, ignore_index: int, by: Rule) -> Hard | None:
    """Binary cross-entropy where it is hard; None if a target is neither 0 nor 1.

    Args:
        x: logits of any shape, not empty.
        t: of the shape of ``x``.
        skip: bool of the shape of ``x``, true where an element is left out as well.
        ignore_index: value whose elements are left out.
        by: which are hard.
    """
    loss, gap = torch.empty(x.numel(), dtype=x.dtype), torch.empty(x.numel(), dtype=x.dtype)
    given_parts = [tensor.reshape(-1) for tensor in (x, t, loss, gap, skip) if tensor is not None]
    masks: list[Tensor | None] = []
    parts: list[Tensor] = []
    for logits, given, value, slope, *skipped in blocks(*given_parts):
        ignored = held(given, ignore_index)
        for more in skipped:
            ignored = more if ignored is None else ignored | more
        masks.append(ignored)
        parts.append(value)
        truth = hide(given.to(x.dtype), ignored)
        if torch.addcmul(truth, truth, truth, value=-1).abs_().amax().item() != 0:
            return None
        # against the truth: the loss is its softplus
        sign = truth.mul_(-2).add_(1) if truth is not given else 1 - 2 * truth
        against = hide(logits * sign, ignored)
        value.copy_(F.softplus(against))
        torch.mul(against.sigmoid_(), sign, out=slope)
    hidden = None
    if any(mask is not None for mask in masks):
        hidden = torch.cat([_whole(mask, part) for mask, part in zip(masks, parts, strict=True)])
    normalizer = _easy(loss, hidden, by).neg_().add_(1)
    loss.mul_(normalizer)
    gap.mul_(normalizer)
    return Hard(loss.view(x.shape), normalizer.view(x.shape), gap.view(x.shape))


def _whole(mask: Tensor | None, part: Tensor) -> Tensor:
    return torch.zeros(part.numel(), dtype=torch.bool) if mask is None else mask.flatten()


def _easy(loss: Tensor, hidden: Tensor | None, by: Rule) -> Tensor:
    """1 where a loss is left out, else 0; (P,), as are ``loss`` and what is ignored. A NaN is kept and seen."""
    easy = torch.empty_like(loss)
    torch.le(loss, by.floor, out=easy)  # by way of a bool tensor it takes five times as long
    if hidden is not None:
        easy.masked_fill_(hidden, 1)
    valid = loss.numel() - (0 if hidden is None else int(hidden.sum().item()))
    wanted = by.min_kept if isinstance(by.min_kept, int) else math.ceil(by.min_kept * valid)
    if loss.numel() - torch.count_nonzero(easy).item() >= wanted:
        return easy
    if wanted >= valid:
        return easy.zero_() if hidden is None else easy.copy_(hidden)
    own = hide(loss, hidden, -torch.inf)
    limit = own.topk(wanted, sorted=False).values.amin()
    return torch.lt(own, limit, out=easy)


def traced_labels(
    x: Tensor, labels: Tensor, skip: Tensor | None, class_weight: Tensor | None, ignore_index: int, by: Rule
) -> Unreduced:
    """`hard_labels` in compiled code for the host: as an operator that the compiler does not look into."""
    value, normalizer, _ = _Traced.apply(x, labels, skip, class_weight, ignore_index, by, False)
    return Unreduced(value, normalizer)


def traced_binary(x: Tensor, t: Tensor, skip: Tensor | None, ignore_index: int, by: Rule) -> Unreduced:
    """The same for one class, of a soft target too."""
    value, normalizer, _ = _Traced.apply(x, t, skip, None, ignore_index, by, True)
    return Unreduced(value, normalizer)


class _Traced(Function):
    """Loss, normalizer and gap; the last is the gradient, and what is kept."""

    @staticmethod
    def forward(
        x: Tensor,
        t: Tensor,
        skip: Tensor | None,
        class_weight: Tensor | None,
        ignore_index: int,
        by: Rule,
        binary: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        from losses_seg import _opaque  # registering an operator takes milliseconds

        number, part = (by.min_kept, None) if isinstance(by.min_kept, int) else (None, by.min_kept)
        found: tuple[Tensor, Tensor, Tensor]
        if binary:
            found = _opaque.hard_binary_on_host(x, t, skip, ignore_index, by.floor, number, part)
        else:
            found = _opaque.hard_labels_on_host(x, t, skip, class_weight, ignore_index, by.floor, number, part)
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.binary = inputs[-1]
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(output[2])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        (gap,) = ctx.saved_tensors
        return gap * (grad if ctx.binary else grad.unsqueeze(1)), None, None, None, None, None, None


class _OfHard(host.HostFunction):
    """The loss, and the gap, which is its gradient and all that is kept.

    The gap is a second output, so that a double backward finds its derivative in the graph.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, found: Hard, scale: float | Tensor | None) -> tuple[Tensor, Tensor]:
        ctx.scale = scale
        ctx.save_for_backward(found.gap, found.labels, found.class_weight)
        ctx.set_materialize_grads(False)
        return found.loss if scale is None else found.loss.sum() * scale, found.gap

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, grad_gap: Tensor | None) -> tuple[Tensor | None, None, None]:
        gap, labels, class_weight = ctx.saved_tensors
        total = None
        if grad is not None:
            grad = grad * ctx.scale if ctx.scale is not None else grad if labels is None else grad.unsqueeze(1)
            total = gap * grad
        if grad_gap is not None:
            if labels is None:
                # the gap is ± the probability of the wrong answer
                wrong = gap.abs()
                of_gap = wrong * (1 - wrong) * grad_gap
            else:
                of_gap = _of_label_gap(gap, labels, class_weight, grad_gap)
            total = of_gap if total is None else total + of_gap
        return total, None, None


def _of_label_gap(gap: Tensor, labels: Tensor, class_weight: Tensor | None, grad: Tensor) -> Tensor:
    """Back from the gap to the probabilities: certain where nothing is kept, where the derivative is 0 too."""
    weight = 1 if class_weight is None else class_weight[labels]
    p = gap if class_weight is None else gap / class_weight[labels].masked_fill(class_weight[labels] == 0, 1)
    p = p.scatter_add(1, labels, torch.ones_like(labels, dtype=gap.dtype))
    return weight * p * (grad - (p * grad).sum(1, keepdim=True))
