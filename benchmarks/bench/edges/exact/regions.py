"""Losses of regions."""

from __future__ import annotations

import math

import numpy as np

from bench.edges.exact.common import IGNORED, Array, Target, log_softmax, mean, sigmoid
from bench.edges.exact.places import elements, rows


def regions(x: Array, target: Target) -> tuple[Array, Array]:
    """Probabilities and truth of the places that count, a list of (C,P) for each image: both with zeros elsewhere."""
    n, c, places = *x.shape[:2], math.prod(x.shape[2:])
    z, label = x.reshape(n, c, places), target.reshape(n, 1, places).astype(np.int64)
    if c == 1:
        p, g = sigmoid(z), (label == 1).astype(np.float64)
    else:
        p, g = np.exp(log_softmax(z)), (label == np.arange(c).reshape(1, c, 1)).astype(np.float64)
    counted = label != IGNORED
    return np.where(counted, p, 0), np.where(counted, g, 0)


def dice(
    x: Array,
    target: Target,
    *,
    squared: bool = True,
    smooth: float = 1.0,
    batch: bool = False,
    together: bool = False,
    absent: str = "counted",
) -> float:
    """``batch``: one ratio over all images; ``together``: one over all classes.

    Classes that are absent are counted, cost nothing (``free``), or are left out of the mean (``skipped``).
    """
    p, g = regions(x, target)
    if not len(x):
        return 0.0
    nothing = (target == IGNORED).reshape(len(x), -1).all(1)
    p, g = p[~nothing], g[~nothing]
    if not p.size:
        return 0.0
    if batch:
        p, g = (np.moveaxis(a, 0, 1).reshape(1, a.shape[1], -1) for a in (p, g))
    if together:
        p, g = (a.reshape(len(a), 1, -1) for a in (p, g))
    power = 2 if squared else 1
    above, below = 2 * (p * g).sum(2) + smooth, (p**power).sum(2) + (g**power).sum(2) + smooth
    value = 1 - np.divide(above, below, out=np.ones_like(above), where=below > 0)
    present = g.sum(2) > 0
    if absent == "skipped":
        return mean(np.array([row[there].mean() for row, there in zip(value, present, strict=True) if there.any()]))
    return float((value * present if absent == "free" else value).mean())


def tversky(
    x: Array,
    target: Target,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    smooth: float = 0.0,
    batch: bool = False,
    absent: str = "counted",
) -> float:
    """Jaccard by default; ``batch`` and ``absent`` as of `dice`."""
    if not len(x):
        return 0.0
    p, g = regions(x, target)
    nothing = (target == IGNORED).reshape(len(x), -1).all(1)
    p, g = p[~nothing], g[~nothing]
    if not p.size:
        return 0.0
    if batch:
        p, g = (np.moveaxis(a, 0, 1).reshape(1, a.shape[1], -1) for a in (p, g))
    right = (p * g).sum(2)
    above, below = right + smooth, right + alpha * (p.sum(2) - right) + beta * (g.sum(2) - right) + smooth
    value = 1 - np.divide(above, below, out=np.ones_like(above), where=below > 0)
    present = g.sum(2) > 0
    if absent == "skipped":
        return mean(np.array([row[there].mean() for row, there in zip(value, present, strict=True) if there.any()]))
    return float((value * present if absent == "free" else value).mean())


def matthews(x: Array, target: Target, *, absent: str = "counted") -> float:
    """1 minus the correlation; where there is none 0 if nothing is wrong, else 1."""
    if not len(x):
        return 0.0
    p, g = regions(x, target)
    counted = (target != IGNORED).reshape(len(x), -1)
    values = []
    for image, there in enumerate(counted):
        for probability, truth in zip(p[image][:, there], g[image][:, there], strict=True):
            if not there.any() or (absent == "skipped" and not truth.any()):
                continue
            a, b = probability.mean(), truth.mean()
            root = math.sqrt(a * (1 - a) * b * (1 - b))
            wrong = 0.0 if (probability == truth).all() else 1.0
            values.append(1 - ((probability * truth).mean() - a * b) / root if root else wrong)
    return mean(np.array(values))


def generalized_dice(x: Array, target: Target, *, smooth: float = 1.0, scaled: bool = True) -> float:
    """Weights 1/A², those of absent classes as the heaviest one; ``scaled``: the heaviest weight is 1."""
    p, g = regions(x, target)
    losses = []
    for probability, truth in zip(p, g, strict=True):
        area = truth.sum(1)
        weight = np.divide(1, area**2, out=np.zeros_like(area), where=area > 0)
        if not probability.any():
            continue
        weight[area == 0] = weight.max()
        if scaled or not area.any():
            weight /= weight.max() or 1
        overlap = (weight * (probability * truth).sum(1)).sum()
        losses.append(1 - (2 * overlap + smooth) / ((weight * (probability.sum(1) + area)).sum() + smooth))
    return mean(np.array(losses))


def _extension(errors: Array, truth: Array) -> float:
    """The Lovász extension of the Jaccard loss."""
    order = np.argsort(-errors, kind="stable")
    g = truth[order]
    jaccard = 1 - (g.sum() - g.cumsum()) / np.maximum(g.sum() + (1 - g).cumsum(), 1)
    return float(errors[order] @ np.diff(jaccard, prepend=0.0))


def lovasz(x: Array, label: Target, *, every: bool = False, per_image: bool = False) -> float:
    """``every``: absent classes count too."""
    values = []
    for image in range(len(x)) if per_image else (slice(None),):
        images = (image, image + 1) if isinstance(image, int) else (None, None)
        z, y, _ = rows(x[slice(*images)], label[slice(*images)])
        if not y.size:
            continue
        p = np.exp(log_softmax(z))
        classes = [k for k in range(x.shape[1]) if every or (y == k).any()]
        values.append(np.mean([_extension(np.abs((y == k) - p[:, k]), (y == k).astype(np.float64)) for k in classes]))
    return mean(np.array(values))


def lovasz_hinge(x: Array, target: Target, *, per_image: bool = False) -> float:
    values = []
    for part in zip(x, target, strict=True) if per_image else [(x, target)]:
        z, t = elements(*part)
        if z.size:
            errors = 1 - z * (2 * t - 1)
            values.append(_extension(np.maximum(errors, 0), t))
    return mean(np.array(values))
