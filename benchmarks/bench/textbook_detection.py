"""Detection losses as their papers write them, operation by operation: for where no library has the loss."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def _qualities(x: Tensor, target: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """One-hot labels without background, and the quality in the column of the label."""
    label, quality = target
    positive = F.one_hot(label.clamp(max=x.shape[1]), x.shape[1] + 1)[:, :-1].to(x.dtype)
    return positive, positive * quality[:, None]


def matchability_aware(x: Tensor, target: tuple[Tensor, Tensor], gamma: float = 1.5) -> Tensor:
    """Matchability-aware loss."""
    positive, quality = _qualities(x, target)
    weight = torch.sigmoid(x).detach().pow(gamma) * (1 - positive) + positive
    return F.binary_cross_entropy_with_logits(x, quality.pow(gamma), weight=weight, reduction="none").sum(1).mean()


def iou_aware(x: Tensor, target: tuple[Tensor, Tensor], alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """IoU-aware cross-entropy, through softplus."""
    positive, quality = _qualities(x, target)
    p = torch.sigmoid(x)
    soft = (p.detach() ** alpha * quality ** (1 - alpha)).clamp(min=0.01) * positive
    weight = positive + (1 - positive) * p**gamma
    return (weight * F.binary_cross_entropy_with_logits(x, soft, reduction="none")).sum(1).mean()


def fine_grained(x: Tensor, distance: Tensor, a: float = 2.0) -> Tensor:
    """Cross-entropy against the two bins around each distance."""
    half = (x.shape[1] - 1) // 2
    right = (a + 1) ** (torch.arange(1, half, device=x.device) * (2 / (x.shape[1] - 3))) - 1
    end = right.new_full((1,), 2 * a)
    bins = torch.cat((-end, -right.flip(0), 0 * end, right, end))
    distance = distance.clamp(-2 * a, 2 * a)
    index = ((bins <= distance[:, None]).sum(1) - 1).clamp(0, x.shape[1] - 2)
    share = (distance - bins[index]) / (bins[index + 1] - bins[index])
    left = F.cross_entropy(x, index, reduction="none") * (1 - share)
    return (left + F.cross_entropy(x, index + 1, reduction="none") * share).mean()


def decoupled_distillation(s: Tensor, t: Tensor, matched: Tensor, quality: Tensor, temperature: float = 5.0) -> Tensor:
    """Divergence from the last layer, averaged over the matched boxes and over the others."""
    divergence = F.kl_div(F.log_softmax(s / temperature, -1), F.softmax(t / temperature, -1), reduction="none").sum(
        -1
    ) * (temperature**2 * quality[:, None])
    groups = [matched, ~matched]
    roots = [(4 * group.sum()).sqrt() for group in groups]
    means = [(divergence * group[:, None]).sum() / (4 * group.sum()).clamp(min=1) for group in groups]
    return (roots[0] * means[0] + roots[1] * means[1]) / (roots[0] + roots[1])


def gaussian_focal(x: Tensor, y: Tensor) -> Tensor:
    """Focal loss of a heatmap, through the logarithms of the sigmoid."""
    p, peak = torch.sigmoid(x), (y == 1).to(x.dtype)
    positive = F.logsigmoid(x) * (1 - p) ** 2 * peak
    return -(positive + F.logsigmoid(-x) * p**2 * (1 - y) ** 4 * (1 - peak)).mean()


def oks(pred: Tensor, target: Tensor, area: Tensor, visibility: Tensor, sigmas: Any) -> Tensor:
    """1 - object keypoint similarity."""
    d2 = (pred - target).pow(2).sum(-1)
    labelled = visibility > 0
    similarity = torch.exp(-d2 / (2 * area[:, None] * (2 * sigmas) ** 2)) * labelled
    return (1 - similarity.sum(1) / labelled.sum(1).clamp(min=1)).mean()
