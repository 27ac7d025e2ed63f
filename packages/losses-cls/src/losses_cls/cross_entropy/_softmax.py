"""The mathematics of softmax cross-entropy: labels and distributions, each with a backward that keeps little."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_cls._targets import along_classes, is_index, per_class
from losses_core.utils import checks, temporaries
from losses_core.utils.autograd import Function
from losses_core.utils.precision import full_precision


@full_precision
def cross_entropy(
    pred: Tensor,
    target: Tensor,
    *,
    class_weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of softmax probabilities, unreduced: see `CrossEntropyLoss`.

    Args:
        pred: logits (N,C,*S).
        target: class indices (N,*S), or probabilities (N,C,*S).
        class_weight: (C,).
        ignore_index: label whose loss and gradient are 0 (index targets).
        label_smoothing: in [0, 1].

    Returns:
        (N,*S)
    """
    if not is_index(pred, target):
        target = target.to(pred.dtype)
        if label_smoothing:
            target = target * (1 - label_smoothing) + label_smoothing / pred.shape[1]
        return soft_cross_entropy(pred, target, class_weight=class_weight)
    target = checks.index("target", target)
    if torch.compiler.is_compiling():
        return _Traced.apply(pred, target, class_weight, ignore_index, label_smoothing)[0]  # type: ignore[no-any-return]
    value, _ = _CrossEntropy.apply(pred, target, class_weight, ignore_index, label_smoothing)
    return value  # type: ignore[no-any-return]


class _CrossEntropy(Function):
    """Cross-entropy of labels, and the logarithms of the probabilities, the one thing of pred's size that is kept.

    torch's own gives an ignored NaN logit a NaN gradient, and keeps a mask with label smoothing. The logarithms are a
    second output so that their own derivative is part of the graph: a double backward needs nothing else.
    """

    @staticmethod
    def forward(
        x: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, smoothing: float
    ) -> tuple[Tensor, Tensor]:
        log_p = F.log_softmax(x, 1)
        return _value(log_p, target, weight, ignore_index, smoothing), log_p

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        _, target, weight, ctx.ignore_index, ctx.smoothing = inputs
        ctx.save_for_backward(output[1], target, weight)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, grad_log_p: Tensor | None) -> tuple[Tensor | None, ...]:
        log_p, target, weight = ctx.saved_tensors
        total = None
        if grad is not None:
            total = _gradient(grad.unsqueeze(1), log_p, target, weight, ctx.ignore_index, ctx.smoothing)
        if grad_log_p is not None:
            of_log_p = grad_log_p - log_p.exp() * grad_log_p.sum(1, keepdim=True)
            total = of_log_p if total is None else total + of_log_p
        return total, None, None, None, None


class _Traced(Function):
    """The same for a compiler: keeps the logits, and the maximum and the logarithm of the sum of each place."""

    @staticmethod
    def forward(
        x: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, smoothing: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        ignored, label = _labels(target, ignore_index)
        top = x.amax(1, keepdim=True)
        z = x - top
        log_sum = z.exp().sum(1, keepdim=True).log()
        value = log_sum - (x.gather(1, label) - top)
        if weight is not None:
            value = value * weight[label]
        if smoothing:
            of_all = log_sum - z.mean(1, keepdim=True)
            if weight is not None:
                of_all = (along_classes(weight, z) * (log_sum - z)).mean(1, keepdim=True)
            value = value * (1 - smoothing) + of_all * smoothing
        return value.masked_fill(ignored, 0).squeeze(1), top, log_sum

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, target, weight, ctx.ignore_index, ctx.smoothing = inputs
        ctx.save_for_backward(x, target, weight, *output[1:])
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, target, weight, top, log_sum = ctx.saved_tensors
        total = _gradient(grad.unsqueeze(1), x - top - log_sum, target, weight, ctx.ignore_index, ctx.smoothing)
        return total, None, None, None, None


def _value(log_p: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, smoothing: float) -> Tensor:
    ignored, label = _labels(target, ignore_index)
    value = -log_p.gather(1, label)
    if weight is not None:
        value = value * weight[label]
    if smoothing:
        all_classes = log_p if weight is None else log_p * along_classes(weight, log_p)
        value = value * (1 - smoothing) - all_classes.sum(1, keepdim=True) * (smoothing / log_p.shape[1])
    return value.masked_fill(ignored, 0).squeeze(1)


def _gradient(
    grad: Tensor, log_p: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, smoothing: float
) -> Tensor:
    """p times the target's total weight, minus the target itself."""
    ignored, label = _labels(target, ignore_index)
    classes = log_p.shape[1]
    on_label = grad if weight is None else grad * weight[label]
    on_all = None
    if smoothing:
        on_label, on_all = on_label * (1 - smoothing), grad * (smoothing / classes)
    coefficient = on_label
    if on_all is not None:
        coefficient = coefficient + on_all * (classes if weight is None else weight.sum())
    p = log_p.exp()
    if torch.compiler.is_compiling():
        # a compiler makes one loop of this
        same = target.unsqueeze(1) == along_classes(torch.arange(classes, device=target.device), log_p)
        total = p * coefficient - torch.where(same, on_label, 0)
    elif torch.is_grad_enabled():
        total = (p * coefficient).scatter_add(1, label, -on_label)
    else:
        total = p.mul_(coefficient).scatter_add_(1, label, -on_label)
    if on_all is not None:
        total = total - (on_all if weight is None else on_all * along_classes(weight, log_p))
    if torch.compiler.is_compiling():
        # in other words than in the forward, whose mask would be stored, which takes longer than to find it again
        ignored = (target - ignore_index).unsqueeze(1) == 0
    return temporaries.masked_fill(total, ignored)


def _labels(target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """(N,1,*S) mask of the ignored places, and labels with those places set to class 0."""
    target = target.unsqueeze(1)
    ignored = target == ignore_index
    return ignored, target.masked_fill(ignored, 0)


@full_precision
def soft_cross_entropy(pred: Tensor, target: Tensor, *, class_weight: Tensor | None = None) -> Tensor:
    """Cross-entropy against probabilities, unreduced: see `SoftCrossEntropyLoss`.

    Args:
        pred: logits (N,C,*S).
        target: probabilities (N,C,*S).
        class_weight: (C,).

    Returns:
        (N,*S)
    """
    checks.same_shape(pred, target)
    target = target.to(pred.dtype)
    weight = per_class(class_weight, pred)
    if target.requires_grad:
        return soft_value(pred, target, weight)
    return _SoftCrossEntropy.apply(pred, target, weight)  # type: ignore[no-any-return]


def soft_value(x: Tensor, q: Tensor, weight: Tensor | None) -> Tensor:
    """-Σ w q log p over axis 1."""
    q = q if weight is None else q * weight
    # 0 · log 0 is 0: a class masked out by a logit of -inf that has no probability costs nothing
    return -(q * F.log_softmax(x, 1)).masked_fill(q == 0, 0).sum(1)


class _SoftCrossEntropy(Function):
    """Keeps the logits and the target; composed from torch operations it would keep the logarithms and a mask too."""

    @staticmethod
    def forward(x: Tensor, q: Tensor, weight: Tensor | None) -> Tensor:
        return soft_value(x, q, weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        x, q, weight = ctx.saved_tensors
        q = q if weight is None else q * weight
        return (F.softmax(x, 1) * q.sum(1, keepdim=True) - q) * grad.unsqueeze(1), None, None
