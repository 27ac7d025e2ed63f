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


def _overlap(pred: Tensor, target: Tensor) -> Tensor:
    low, high = torch.maximum(pred[:, :2], target[:, :2]), torch.minimum(pred[:, 2:], target[:, 2:])
    inter = (high - low).clamp(min=0).prod(1)
    areas = [(box[:, 2:] - box[:, :2]).prod(1) for box in (pred, target)]
    return inter / (areas[0] + areas[1] - inter)


def mpdiou(pred: Tensor, target: Tensor, height: float = 640, width: float = 640) -> Tensor:
    """IoU and the distances of the corners."""
    distance = (pred - target).pow(2).sum(1)
    return (1 - _overlap(pred, target) + distance / (height**2 + width**2)).mean()


def nwd(pred: Tensor, target: Tensor, constant: float = 12.8) -> Tensor:
    """Normalized Wasserstein distance."""
    shift = (pred[:, :2] + pred[:, 2:] - target[:, :2] - target[:, 2:]) / 2
    sides = (pred[:, 2:] - pred[:, :2] - target[:, 2:] + target[:, :2]) / 2
    return (1 - torch.exp(-(shift.pow(2).sum(1) + sides.pow(2).sum(1)).sqrt() / constant)).mean()


class WiseIoU:
    """Wise-IoU with a running mean."""

    def __init__(self, alpha: float = 1.9, delta: float = 3.0, momentum: float = 1e-4) -> None:
        self.alpha, self.delta, self.momentum, self.mean = alpha, delta, momentum, 1.0

    def __call__(self, pred: Tensor, target: Tensor) -> Tensor:
        miss = 1 - _overlap(pred, target)
        mean = (1 - self.momentum) * self.mean + self.momentum * miss.detach().mean()
        shift = (pred[:, :2] + pred[:, 2:] - target[:, :2] - target[:, 2:]) / 2
        hull = torch.maximum(pred[:, 2:], target[:, 2:]) - torch.minimum(pred[:, :2], target[:, :2])
        beta = miss.detach() / mean
        focus = beta / (self.delta * self.alpha ** (beta - self.delta))
        return (focus * torch.exp(shift.pow(2).sum(1) / hull.detach().pow(2).sum(1)) * miss).mean()


def _covariances(box: Tensor, share: float, floor: float) -> tuple[Tensor, Tensor, Tensor]:
    """Variances along x and y, and the covariance."""
    u, v = share * box[:, 2] ** 2 + floor, share * box[:, 3] ** 2 + floor
    cos, sin = torch.cos(box[:, 4]), torch.sin(box[:, 4])
    return u * cos**2 + v * sin**2, u * sin**2 + v * cos**2, (u - v) * cos * sin


def probiou(pred: Tensor, target: Tensor, floor: float = 0.01) -> Tensor:
    """Hellinger distance of rotated boxes, by their covariances."""
    a, b, c = _covariances(pred, 1 / 12, floor)
    a2, b2, c2 = _covariances(target, 1 / 12, floor)
    x, y = pred[:, 0] - target[:, 0], pred[:, 1] - target[:, 1]
    determinant = (a + a2) * (b + b2) - (c + c2) ** 2
    shift = ((a + a2) * y**2 + (b + b2) * x**2 - 2 * (c + c2) * x * y) / determinant / 4
    own = ((a * b - c**2).clamp(min=1e-12) * (a2 * b2 - c2**2).clamp(min=1e-12)).sqrt()
    distance = shift + torch.log(determinant / (4 * own)) / 2
    return (1 - torch.exp(-distance.clamp(min=1e-7))).sqrt().mean()


def gwd(pred: Tensor, target: Tensor, floor: float = 1e-6) -> Tensor:
    """Gaussian Wasserstein distance, by traces and determinants."""
    a, b, c = _covariances(pred, 1 / 4, floor)
    a2, b2, c2 = _covariances(target, 1 / 4, floor)
    product = (a * b - c**2).clamp(min=1e-12) * (a2 * b2 - c2**2).clamp(min=1e-12)
    mixed = (a * a2 + 2 * c * c2 + b * b2 + 2 * product.sqrt()).clamp(min=1e-7).sqrt()
    square = (pred[:, :2] - target[:, :2]).pow(2).sum(1) + a + b + a2 + b2 - 2 * mixed
    distance = square.clamp(min=1e-7).sqrt() / (2 * product**0.125)
    return (1 - 1 / (1 + torch.log1p(distance))).mean()


def kld(pred: Tensor, target: Tensor, floor: float = 1e-6) -> Tensor:
    """Kullback-Leibler divergence, by inverse and determinants."""
    a, b, c = _covariances(pred, 1 / 4, floor)
    a2, b2, c2 = _covariances(target, 1 / 4, floor)
    x, y = pred[:, 0] - target[:, 0], pred[:, 1] - target[:, 1]
    determinant, other = (a * b - c**2).clamp(min=1e-12), (a2 * b2 - c2**2).clamp(min=1e-12)
    shift = (b * x**2 + a * y**2 - 2 * c * x * y) / determinant
    trace = (b * a2 + a * b2 - 2 * c * c2) / determinant
    divergence = (shift + trace + torch.log(determinant / other)) / 2 - 1
    return (1 - 1 / (1 + torch.log1p(divergence.clamp(min=1e-7).sqrt()))).mean()
