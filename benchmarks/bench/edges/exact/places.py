"""Losses of single places: labels, and yes or no."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bench.edges.exact.common import IGNORED, Array, Target, log_softmax, mean, sigmoid


def rows(x: Array, label: Target) -> tuple[Array, NDArray[np.int64], int]:
    """Logits (P,C) and labels (P,) of the places that count, and the number of all places."""
    flat = np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])
    labels = label.astype(np.int64).ravel()
    counted = labels != IGNORED
    return flat[counted], labels[counted], labels.size


def cross_entropy(x: Array, label: Target, *, smoothing: float = 0.0, over_all: bool = False) -> float:
    """``over_all``: the mean is over ignored places too."""
    z, y, places = rows(x, label)
    if not y.size:
        return 0.0
    log_p = log_softmax(z)
    value = -(1 - smoothing) * log_p[np.arange(y.size), y] - smoothing * log_p.mean(1)
    return float(value.sum() / (places if over_all else y.size))


def logit_adjusted(x: Array, label: Target, *, counts: Sequence[int]) -> float:
    return cross_entropy(x + np.log(np.array(counts)).reshape(-1, *(1 for _ in x.shape[2:])), label)


def poly_cross_entropy(x: Array, label: Target) -> float:
    z, y, _ = rows(x, label)
    if not y.size:
        return 0.0
    log_p = log_softmax(z)[np.arange(y.size), y]
    return float((-log_p - np.expm1(log_p)).mean())


def jsd(x: Array, label: Target) -> float:
    """Two splits, smoothing 0.1 and a factor of 12."""
    half = len(x) // 2
    counted = label.astype(np.int64)[:half] != IGNORED
    first, second = log_softmax(x[:half][counted]), log_softmax(x[half:][counted])
    mixture = np.logaddexp(first, second) - math.log(2)
    # 0 · -inf does not come up, as the logits are finite
    divergence = sum(float((np.exp(p) * (p - mixture)).sum()) for p in (first, second)) / 2
    return cross_entropy(x[:half], label[:half], smoothing=0.1) + 12 * divergence / max(1, int(counted.sum()))


def asymmetric_single(x: Array, label: Target) -> float:
    """With exponents 0 and 4 and smoothing 0.1."""
    z, y, _ = rows(x, label)
    if not y.size:
        return 0.0
    log_p, each = log_softmax(z), 0.1 / z.shape[1]
    right = log_p[np.arange(y.size), y]
    terms = each * np.exp(4 * log_p) * log_p
    others = terms.sum(1) - terms[np.arange(y.size), y]
    return float(-((0.9 + each) * right + others).mean())


def seesaw(x: Array, label: Target) -> float:
    """With the counts of these labels."""
    z, y, _ = rows(x, label)
    if not y.size:
        return 0.0
    log_n, log_p, each = np.log(np.maximum(np.bincount(y, minlength=z.shape[1]), 1)), log_softmax(z), np.arange(y.size)
    mitigation = 0.8 * np.minimum(log_n[None] - log_n[y][:, None], 0)
    compensation = 2 * np.maximum(log_p - np.maximum(log_p[each, y], math.log(0.01))[:, None], 0)
    return float(-log_softmax(z + mitigation + compensation)[each, y].mean())


def softmax_focal(x: Array, label: Target, *, gamma: float = 2.0, over_all: bool = False) -> float:
    z, y, places = rows(x, label)
    if not y.size:
        return 0.0
    log_p = log_softmax(z)[np.arange(y.size), y]
    return float(((-np.expm1(log_p)) ** gamma * -log_p).sum() / (places if over_all else y.size))


def hard_mining(x: Array, label: Target, *, thresh: float = 0.7, min_kept: int = 10) -> float:
    z, y, _ = rows(x, label)
    if not y.size:
        return 0.0
    value = np.sort(-log_softmax(z)[np.arange(y.size), y])[::-1]
    limit = min(-math.log(thresh), value[min(min_kept, y.size) - 1])
    return float(value[value >= limit].mean())


def elements(x: Array, y: Target) -> tuple[Array, Array]:
    """The elements that count."""
    target = y.astype(np.float64).reshape(x.shape)
    return x[target != IGNORED], target[target != IGNORED]


def binary_cross_entropy(x: Array, y: Target, *, over_all: bool = False) -> float:
    z, t = elements(x, y)
    value = np.logaddexp(0, z) - z * t
    return float(value.sum() / max(1, x.size if over_all else z.size))


def sigmoid_focal(x: Array, y: Target, *, over_all: bool = False) -> float:
    z, t = elements(x, y)
    wrong = np.where(t == 1, sigmoid(-z), sigmoid(z))
    value = np.where(t == 1, 0.25, 0.75) * wrong**2 * (np.logaddexp(0, z) - z * t)
    return float(value.sum() / max(1, x.size if over_all else z.size))


def poly_focal(x: Array, y: Target) -> float:
    z, t = elements(x, y)
    wrong = np.where(t == 1, sigmoid(-z), sigmoid(z))
    return mean(np.where(t == 1, 0.25, 0.75) * (wrong**2 * (np.logaddexp(0, z) - z * t) + wrong**3))


def asymmetric(x: Array, y: Target) -> float:
    z, t = elements(x, y)
    shifted = np.maximum(sigmoid(z) - 0.05, 0)
    value = np.where(t == 1, sigmoid(-z) * np.logaddexp(0, -z), -(shifted**4) * np.log1p(-shifted))
    return mean(value)


def zlpr(x: Array, y: Target) -> float:
    z, t = (
        np.moveaxis(x, 1, -1).reshape(-1, x.shape[1]),
        np.moveaxis(y.astype(np.float64), 1, -1).reshape(-1, x.shape[1]),
    )
    value = np.zeros(len(z))
    for sign, side in ((1, t == 0), (-1, t == 1)):
        # log(1 + Σ e^s), the 1 as one more logit of 0
        s = np.concatenate([np.where(side, sign * z, -np.inf), np.zeros((len(z), 1))], 1)
        top = s.max(1, keepdims=True)
        value += np.log(np.exp(s - top).sum(1)) + top[:, 0]
    counted = (t != IGNORED).any(1)
    return float(value[counted].sum() / max(1, counted.sum()))


def two_way(x: Array, y: Target) -> float:
    """With temperatures 4 and 1."""
    z, t = (np.moveaxis(a.astype(np.float64), 1, -1).reshape(-1, x.shape[1]) for a in (x, y))
    value = 0.0
    for logits, tags in ((z, t), (z.T, t.T)):
        h = [_two_way(row[tag == 1], row[tag == 0]) for row, tag in zip(logits, tags, strict=True) if (tag == 1).any()]
        value += sum(h) / max(1, len(h))
    return value


def _two_way(positives: Array, negatives: Array) -> float:
    if not negatives.size:
        return 0.0
    margin = 4 * np.logaddexp.reduce(-positives / 4) + np.logaddexp.reduce(negatives)
    return float(np.logaddexp(0, margin))
