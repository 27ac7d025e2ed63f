"""Scores against the quality of a box: targets, and the binary cross-entropy that the losses of scores share."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import Tensor

from losses_core.errors import InputError
from losses_core.utils import checks
from losses_core.utils.stable import binary_cross_entropy, power, probability_cross_entropy
from losses_core.utils.value_checks import check_labels, check_probabilities

QualityTarget: TypeAlias = Tensor | tuple[Tensor, Tensor]
"""Class indices (…) with a quality each (…), or qualities (…,C)."""


def quality_target(pred: Any, target: Any, *, check_scores: bool) -> QualityTarget:
    """Check a target: class indices, C or -1 for background, with a score each; or scores of the shape of ``pred``."""
    checks.tensor("pred", pred)
    if pred.ndim == 0:
        raise InputError("expected pred of shape (N, C); got a 0-d tensor.")
    shown = f"pred {tuple(pred.shape)}"
    if isinstance(target, Tensor):
        if target.shape == pred.shape[:-1] and not target.is_floating_point():
            raise InputError("expected target as a pair (label, score) or as scores (N, C); got labels only.")
        checks.shape("target", target, pred.shape, reference=f"{shown}, or a pair (label, score)")
        if check_scores:
            check_probabilities(target)
        return target if target.is_floating_point() else target.to(pred.dtype)
    if not isinstance(target, (list, tuple)) or len(target) != 2:
        raise InputError(f"expected target as a pair (label, score) or as scores (N, C); got {type(target).__name__}.")
    label = checks.index("target[0], the label,", target[0])
    score = checks.tensor("target[1], the score,", target[1])
    checks.shape("target[0], the label,", label, pred.shape[:-1], reference=shown)
    checks.shape("target[1], the score,", score, pred.shape[:-1], reference=shown)
    classes = pred.shape[-1]
    check_labels(label, classes, None, name="target[0], the label,", extra=(classes, -1))
    if check_scores:
        check_probabilities(score, name="target[1], the score,")
    return label, score if score.is_floating_point() else score.to(pred.dtype)


def matched_quality(pred: Tensor, target: QualityTarget) -> tuple[Tensor, Tensor]:
    """Which elements of ``pred`` are the class of a matched box, and the quality of each element, 0 elsewhere.

    In the pair form a row with a label is matched whatever its quality; in the dense form where the quality is > 0.
    """
    if isinstance(target, Tensor):
        return target > 0, target
    label, score = target
    is_label = label.unsqueeze(-1) == torch.arange(pred.shape[-1], device=pred.device)
    return is_label, torch.where(is_label, score.unsqueeze(-1), 0)


def distance_and_entropy(x: Tensor, t: Tensor, use_sigmoid: bool) -> tuple[Tensor, Tensor]:
    """p - t and the binary cross-entropy of each element, of logits or of probabilities ``x`` and scores ``t``."""
    if use_sigmoid:
        return torch.sigmoid(x) - t, binary_cross_entropy(x, t)
    return x - t, probability_cross_entropy(x, t)


def focused(distance: Tensor, gamma: float) -> Tensor:
    """|distance|^γ, with a finite derivative at 0."""
    return power(distance if gamma in (2, 4) else distance.abs(), gamma)
