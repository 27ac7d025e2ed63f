"""Losses of boxes and of their scores."""

from __future__ import annotations

import math

import numpy as np

from bench.edges.exact.common import Array, Target, huber, log_softmax, mean, sigmoid


def box_loss(kind: str, pred: Array, target: Array, weight: Array | None = None) -> float:
    """Mean over pairs; ``kind`` is iou, giou, diou, ciou, or gated ciou, that wants an IoU over 0.5."""
    counted = np.ones(len(pred)) if weight is None else weight
    pairs = zip(pred, target, counted, strict=True)
    return mean(np.array([w * _pair(kind, *map(float, (*a, *b))) if w else 0.0 for a, b, w in pairs]))


def _pair(kind: str, x1: float, y1: float, x2: float, y2: float, a1: float, b1: float, a2: float, b2: float) -> float:
    w, h, v, u = x2 - x1, y2 - y1, a2 - a1, b2 - b1
    shared = max(min(x2, a2) - max(x1, a1), 0) * max(min(y2, b2) - max(y1, b1), 0)
    union = w * h + v * u - shared
    iou = shared / union if union else 0.0
    across, down = max(x2, a2) - min(x1, a1), max(y2, b2) - min(y1, b1)
    if kind == "giou":
        hull = across * down
        return 1 - iou + ((hull - union) / hull if hull else 0)
    if kind == "iou":
        return 1 - iou
    diagonal = across**2 + down**2
    value = 1 - iou + ((x1 + x2 - a1 - a2) ** 2 + (y1 + y2 - b1 - b2) ** 2) / 4 / diagonal if diagonal else 1 - iou
    if kind == "ciou" or (kind == "gated ciou" and iou > 0.5):
        aspect = 4 / math.pi**2 * (math.atan2(v, u) - math.atan2(w, h)) ** 2
        value += aspect**2 / (1 - iou + aspect) if aspect else 0
    return value


def absolute(pred: Array, target: Array) -> float:
    return mean(np.abs(pred - target))


def smooth_l1(pred: Array, target: Array) -> float:
    return mean(huber(pred - target))


def quality_focal(x: Array, target: tuple[Target, Array]) -> float:
    label, score = target
    y = (label[:, None] == np.arange(x.shape[1])) * score[:, None]
    value = np.abs(y - sigmoid(x)) ** 2 * (np.logaddexp(0, x) - x * y)
    return mean(value.sum(1))


def varifocal(x: Array, y: Array) -> float:
    weight = np.where(y > 0, y, 0.75 * sigmoid(x) ** 2)
    return mean(weight * (np.logaddexp(0, x) - x * y))


def distribution_focal(x: Array, y: Array) -> float:
    if not y.size:
        return 0.0
    log_p, left = log_softmax(x), np.minimum(np.floor(y), x.shape[1] - 2).astype(np.int64)
    each = np.arange(y.size)
    return mean(-(left + 1 - y) * log_p[each, left] - (y - left) * log_p[each, left + 1])


def gaussian_focal(x: Array, y: Array) -> float:
    peak = y == 1
    p = np.where(peak, sigmoid(-x), sigmoid(x))
    return mean(np.where(peak, 1, (1 - y) ** 4) * p**2 * np.logaddexp(0, np.where(peak, -x, x)))


def _matched(x: Array, target: tuple[Target, Array]) -> tuple[Array, Array]:
    label, quality = target
    matched = label[:, None] == np.arange(x.shape[1])
    return matched, matched * quality[:, None]


def matchability_aware(x: Array, target: tuple[Target, Array]) -> float:
    matched, quality = _matched(x, target)
    soft = quality**1.5
    positive = np.logaddexp(0, x) - x * soft
    return mean(np.where(matched, positive, sigmoid(x) ** 1.5 * np.logaddexp(0, x)).sum(1))


def iou_aware(x: Array, target: tuple[Target, Array]) -> float:
    matched, quality = _matched(x, target)
    soft = np.maximum(sigmoid(x) ** 0.25 * quality**0.75, 0.01)
    positive = soft * np.logaddexp(0, -x) + (1 - soft) * np.logaddexp(0, x)
    return mean(np.where(matched, positive, sigmoid(x) ** 2 * np.logaddexp(0, x)).sum(1))


def fine_grained(x: Array, distance: Array) -> float:
    if not distance.size:
        return 0.0
    right = 3 ** (np.arange(1, 16) / 15) - 1
    bins = np.concatenate(([-4.0], -right[::-1], [0.0], right, [4.0]))
    d, log_p, each = np.clip(distance, -4, 4), log_softmax(x), np.arange(distance.size)
    left = np.clip(np.searchsorted(bins, d, side="right") - 1, 0, 31)
    share = (d - bins[left]) / (bins[left + 1] - bins[left])
    return mean(-(1 - share) * log_p[each, left] - share * log_p[each, left + 1])


def wasserstein(pred: Array, target: Array) -> float:
    def of(box: Array) -> Array:
        return np.concatenate(((box[:, :2] + box[:, 2:]) / 2, np.maximum(box[:, 2:] - box[:, :2], 0) / 2), 1)

    return mean(-np.expm1(-np.sqrt(((of(pred) - of(target)) ** 2).sum(1)) / 12.8))


def _covariance(box: Array, share: float, floor: float) -> Array:
    cos, sin = math.cos(box[4]), math.sin(box[4])
    turn = np.array([[cos, -sin], [sin, cos]])
    covariance: Array = turn @ np.diag(share * box[2:4] ** 2 + floor) @ turn.T
    return covariance


def rotated(kind: str, pred: Array, target: Array) -> float:
    """Mean over pairs; ``kind`` is probiou, gwd or kld."""
    share, floor = (1 / 12, 0.01) if kind == "probiou" else (1 / 4, 1e-6)
    value = []
    for box, other in zip(pred.astype(np.float64), target.astype(np.float64), strict=True):
        p, t, d = _covariance(box, share, floor), _covariance(other, share, floor), box[:2] - other[:2]
        det_p, det_t = (np.prod(share * b[2:4] ** 2 + floor) for b in (box, other))
        if kind == "probiou":
            total = max(np.linalg.det(p + t) / (4 * math.sqrt(det_p * det_t)), 1)
            value.append(math.sqrt(-math.expm1(-d @ np.linalg.inv(p + t) @ d / 4 - math.log(total) / 2)))
        elif kind == "gwd":
            root = math.sqrt(np.trace(p @ t) + 2 * math.sqrt(det_p * det_t))
            distance = math.sqrt(max(d @ d + np.trace(p) + np.trace(t) - 2 * root, 0))
            value.append(1 - 1 / (1 + math.log1p(distance / (2 * (det_p * det_t) ** 0.125))))
        else:
            inverse = np.linalg.inv(p)
            divergence = (d @ inverse @ d + np.trace(inverse @ t) + math.log(det_p / det_t)) / 2 - 1
            value.append(1 - 1 / (1 + math.log1p(math.sqrt(max(divergence, 0)))))
    return mean(np.array(value))
