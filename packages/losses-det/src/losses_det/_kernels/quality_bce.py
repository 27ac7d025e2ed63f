"""Kernels of the matchability-aware loss and of the IoU-aware cross-entropy."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from losses_core.kernels import kernel
from losses_core.utils.stable import power
from losses_det._kernels._scores import Scores
from losses_det._quality import QualityTarget
from losses_det.quality_bce import aligned_target, iou_aware_bce_loss, matchability_aware_loss

Elements = tuple[Tensor, Tensor | None]
"""The loss of elements, and its derivative."""


def _combined(negative: Elements, positive: Elements, index: Tensor | None, matched: Tensor) -> Elements:
    """Sum over the classes, with ``positive`` where an element is matched: at the label of a row, or anywhere."""
    both: list[Tensor | None] = []
    for everywhere, at_label in zip(negative, positive, strict=True):
        if everywhere is None or at_label is None:
            both.append(None)
        elif index is None:
            both.append(torch.where(matched, at_label, everywhere))
        else:  # all classes are negatives but one
            at_label = torch.where(matched, at_label, everywhere.gather(-1, index))
            both.append(everywhere.scatter_(-1, index, at_label))
    value, grad = both
    assert value is not None
    return value.sum(-1), grad


def _labels(x: Tensor, target: QualityTarget) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """What may be matched: logits, qualities, their index in a row, None for all; and which of them are."""
    if isinstance(target, Tensor):
        return x, target, None, target > 0
    label, quality = target
    index = label.clamp(0, x.shape[-1] - 1).unsqueeze(-1)
    matched = index == label.unsqueeze(-1)
    return x.gather(-1, index), quality.unsqueeze(-1).masked_fill(~matched, 0), index, matched


@kernel(matchability_aware_loss, bound=lambda *, alpha, gamma: max(1.0, alpha or 1.0), temporaries=10)
def matchability_aware_kernel(
    x: Tensor, target: QualityTarget, *, alpha: float | None, gamma: float, needs_grad: bool
) -> Elements:
    """The derivative is p - t, times the weight, which is a constant."""
    x_label, quality, index, matched = _labels(x, target)
    background, label = Scores(x, None, use_sigmoid=True), Scores(x_label, power(quality, gamma), use_sigmoid=True)
    weight = background.focus(gamma)
    if alpha is not None:
        weight.mul_(alpha)
    grad = weight * background.distance if needs_grad else None
    negative = weight.mul_(background.entropy), grad
    return _combined(negative, (label.entropy, label.distance if needs_grad else None), index, matched)


@kernel(iou_aware_bce_loss, bound=lambda *, gamma, **_: 1 + gamma / math.e, temporaries=10)
def iou_aware_bce_kernel(
    x: Tensor, target: QualityTarget, *, alpha: float, gamma: float, min_target: float, needs_grad: bool
) -> Elements:
    """A negative is focused with its gradient, the target of a matched class is a constant."""
    x_label, quality, index, matched = _labels(x, target)
    label = Scores(x_label, aligned_target(x_label, quality, alpha, min_target), use_sigmoid=True)
    background = Scores(x, None, use_sigmoid=True)
    grad = background.focused_grad(gamma) if needs_grad else None
    negative = background.focus(gamma).mul_(background.entropy), grad
    return _combined(negative, (label.entropy, label.distance if needs_grad else None), index, matched)
