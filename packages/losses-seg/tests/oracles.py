"""NumPy references in float64, written from the papers, pixel lists first: ignored pixels are taken out, not masked."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.ndimage import distance_transform_edt, maximum_filter

from losses_testkit import Array, Reference


def softmax(x: Array, axis: int = 1) -> Array:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def sigmoid(x: Array) -> Array:
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))


def probabilities(pred: Array, activation: str) -> Array:
    if activation == "none":
        return pred
    if activation == "sigmoid" or pred.shape[1] == 1:
        return sigmoid(pred)
    return softmax(pred)


def read(pred: Array, target: Array, ignore_index: int, activation: str) -> tuple[Array, Array, Array]:
    """Probabilities, truth and a mask of what counts, all (N,C,P)."""
    n, c = pred.shape[:2]
    p = probabilities(pred, activation).reshape(n, c, -1)
    if c == 1:
        g = target.reshape(n, 1, -1).astype(float)
        counted = g != ignore_index
    elif target.size == pred.size:
        g = target.reshape(n, c, -1).astype(float)
        if 0 <= ignore_index < c:
            counted = np.repeat(g[:, ignore_index : ignore_index + 1] != 1, c, 1)
        else:
            counted = g != ignore_index
            if activation in ("auto", "softmax"):
                counted = np.repeat(counted.all(1, keepdims=True), c, 1)
    else:
        labels = target.reshape(n, 1, -1)
        g = (labels == np.arange(c).reshape(1, c, 1)).astype(float)
        counted = np.repeat(labels != ignore_index, c, 1)
    return p, g, counted


def wanted(c: int, classes: str | list[int], ignore_index: int, include_background: bool = True) -> list[int]:
    chosen = list(range(c)) if isinstance(classes, str) else list(classes)
    if c == 1:
        return chosen
    return [k for k in chosen if k != ignore_index and (include_background or k != 0)]


def dice(
    pred: Array,
    target: Array,
    *,
    smooth: float = 1.0,
    exponent: float = 2,
    ignore_index: int = 255,
    naive_dice: bool = False,
    class_weight: list[float] | None = None,
    per_image: bool = True,
    classes: str | list[int] = "all",
    include_background: bool = True,
    activation: str = "auto",
) -> Reference:
    p, g, counted = read(pred, target, ignore_index, activation)
    n, c = p.shape[:2]
    e = 1 if naive_dice else exponent
    soft = e == 1 and target.dtype.kind == "f"
    weight = np.ones(c) if class_weight is None else np.asarray(class_weight, float)
    groups = [[i] for i in range(n)] if per_image else [list(range(n))]
    value, normalizer = np.zeros((len(groups), c)), np.zeros((len(groups), c))
    for row, images in enumerate(groups):
        for k in wanted(c, classes, ignore_index, include_background):
            pk = np.concatenate([p[i, k][counted[i, k]] for i in images] or [np.zeros(0)])
            gk = np.concatenate([g[i, k][counted[i, k]] for i in images] or [np.zeros(0)])
            if not pk.size or (classes == "present" and not gk.sum()):
                continue
            inter = (pk.sum() + gk.sum() - np.abs(pk - gk).sum()) / 2 if soft else (pk * gk).sum()
            below = (pk**e).sum() + (gk**e).sum() + smooth
            normalizer[row, k] = weight[k]
            value[row, k] = weight[k] * (1 - (2 * inter + smooth) / below if below else 0)
    return (value, normalizer) if per_image else (value[0], normalizer[0])


def binary_dice(pred: Array, target: Array, **options: object) -> Reference:
    if not (pred.ndim > 2 and pred.shape[1] == 1):
        pred, target = pred[:, None], target[:, None]
    value, normalizer = dice(pred, target, **options)
    return value[..., 0], normalizer[..., 0]


def generalized_dice(
    pred: Array,
    target: Array,
    *,
    smooth: float = 1.0,
    ignore_index: int = 255,
    weight_type: str = "square",
    absent: str = "max",
    per_image: bool = True,
    include_background: bool = True,
    activation: str = "auto",
) -> Reference:
    p, g, counted = read(pred, target, ignore_index, activation)
    n, c = p.shape[:2]
    if c == 1:
        p, g, counted = (np.concatenate(pair, 1) for pair in ((1 - p, p), (1 - g, g), (counted, counted)))
    soft = target.dtype.kind == "f"
    used = [k for k in range(p.shape[1]) if (c == 1 or k != ignore_index) and (include_background or k != 0)]
    groups = [[i] for i in range(n)] if per_image else [list(range(n))]
    value, normalizer = np.zeros(len(groups)), np.zeros(len(groups))
    for row, images in enumerate(groups):
        inter, total, area = [], [], []
        for k in used:
            pk = np.concatenate([p[i, k][counted[i, k]] for i in images] or [np.zeros(0)])
            gk = np.concatenate([g[i, k][counted[i, k]] for i in images] or [np.zeros(0)])
            inter.append(np.minimum(pk, gk).sum() if soft else (pk * gk).sum())
            total.append(pk.sum() + gk.sum())
            area.append(gk.sum())
        normalizer[row] = any(counted[i].any() for i in images)
        power = {"square": 2, "simple": 1, "uniform": 0}[weight_type]
        weight = np.array([a**-power if a else np.nan for a in area])
        largest = np.nanmax(weight) if np.isfinite(weight).any() else 1.0
        weight = np.where(np.isnan(weight), largest if absent == "max" else 0, weight) / largest
        below = (weight * total).sum() + smooth
        value[row] = 1 - (2 * (weight * inter).sum() + smooth) / below if below else 0
    return (value, normalizer) if per_image else (value[0], normalizer[0])


def lovasz_grad(gt_sorted: Array) -> Array:
    """Algorithm 1 of Berman et al."""
    gts = gt_sorted.sum()
    intersection = gts - gt_sorted.cumsum()
    union = gts + (1 - gt_sorted).cumsum()
    jaccard = 1 - intersection / union
    jaccard[1:] = jaccard[1:] - jaccard[:-1]
    return jaccard


def lovasz_flat(p: Array, g: Array) -> float:
    errors = np.abs(g - p)
    order = np.argsort(-errors, kind="stable")
    return float(errors[order] @ lovasz_grad(g[order])) if p.size else 0.0


def lovasz(
    pred: Array,
    target: Array,
    *,
    per_image: bool = False,
    ignore_index: int = 255,
    classes: str | list[int] = "present",
    class_weight: list[float] | None = None,
    activation: str = "auto",
) -> Reference:
    p, g, counted = read(pred, target, ignore_index, activation)
    n, c = p.shape[:2]
    weight = np.ones(c) if class_weight is None else np.asarray(class_weight, float)
    groups = [[i] for i in range(n)] if per_image else [list(range(n))]
    value = np.zeros(len(groups))
    for row, images in enumerate(groups):
        terms, share = 0.0, 0.0
        for k in wanted(c, classes, ignore_index):
            pk = np.concatenate([p[i, k][counted[i, k]] for i in images] or [np.zeros(0)])
            gk = np.concatenate([g[i, k][counted[i, k]] for i in images] or [np.zeros(0)])
            if classes == "present" and not gk.sum():
                continue
            terms += weight[k] * lovasz_flat(pk, gk)
            share += weight[k]
        value[row] = terms / share if share else 0
    return (value, counted.any((1, 2)).astype(float)) if per_image else (value[0], np.ones(()))


def lovasz_hinge(pred: Array, target: Array, *, per_image: bool = False, ignore_index: int = 255) -> Reference:
    n = pred.shape[0]
    x, g = pred.reshape(n, -1), target.reshape(n, -1).astype(float)
    groups = [[i] for i in range(n)] if per_image else [list(range(n))]
    value, normalizer = np.zeros(len(groups)), np.zeros(len(groups))
    for row, images in enumerate(groups):
        xk = np.concatenate([x[i][g[i] != ignore_index] for i in images] or [np.zeros(0)])
        gk = np.concatenate([g[i][g[i] != ignore_index] for i in images] or [np.zeros(0)])
        if not xk.size:
            continue
        errors = 1 - xk * (2 * gk - 1)
        order = np.argsort(-errors, kind="stable")
        value[row] = np.maximum(errors[order], 0) @ lovasz_grad(gk[order])
        normalizer[row] = 1
    return (value, normalizer) if per_image else (value[0], np.ones(()))


def boundary(
    pred: Array,
    target: Array,
    *,
    theta0: int = 3,
    theta: int = 5,
    ignore_index: int = 255,
    classes: str | list[int] = "present",
    activation: str = "auto",
) -> Reference:
    shape = pred.shape
    p, g, counted = (x.reshape(shape) for x in read(pred, target, ignore_index, activation))

    def contour(m: Array, keep: Array) -> Array:
        rest = np.where(keep, 1 - m, 0)
        return np.where(keep, pool(rest, theta0) - rest, 0)

    def pool(x: Array, size: int) -> Array:
        return maximum_filter(x, size=size, mode="constant", cval=-np.inf)

    value, normalizer = np.zeros(shape[:2]), np.zeros(shape[:2])
    for n in range(shape[0]):
        for k in wanted(shape[1], classes, ignore_index):
            b_p, b_g = contour(p[n, k], counted[n, k]), contour(g[n, k], counted[n, k])
            if not counted[n, k].any() or (classes != "all" and not b_g.sum()):
                continue
            precision = (b_p * pool(b_g, theta)).sum() / b_p.sum() if b_p.sum() else 0
            recall = (b_g * pool(b_p, theta)).sum() / b_g.sum() if b_g.sum() else 0
            both = precision + recall
            value[n, k] = 1 - (2 * precision * recall / both if both else 0)
            normalizer[n, k] = 1
    return value, normalizer


def field(mask: Array, counted: Array, spacing: float | list[float] | None) -> Array:
    """Distance to the nearest counted pixel on the other side of the mask, by scipy."""
    if not (mask & counted).any() or not (~mask & counted).any():
        return np.zeros(mask.shape)
    inside = distance_transform_edt(~(~mask & counted), sampling=spacing)
    outside = distance_transform_edt(~(mask & counted), sampling=spacing)
    return np.where(mask, inside, outside)


def hausdorff(
    pred: Array,
    target: Array,
    *,
    alpha: float = 2.0,
    ignore_index: int = 255,
    include_background: bool = True,
    pred_mask: str = "argmax",
    one_sided: bool = False,
    spacing: float | list[float] | None = None,
    activation: str = "auto",
    target_dist: Array | None = None,
) -> Reference:
    shape = pred.shape
    p, g, counted = (x.reshape(shape) for x in read(pred, target, ignore_index, activation))
    if pred_mask == "threshold" or shape[1] == 1:
        guess = p > 0.5
    else:
        guess = p.argmax(1)[:, None] == np.arange(shape[1]).reshape(1, -1, *(1 for _ in shape[2:]))
    value, normalizer = np.zeros(shape[:2]), np.zeros(shape[:2])
    for n in range(shape[0]):
        for k in wanted(shape[1], "all", ignore_index, include_background):
            keep = counted[n, k]
            if not keep.any():
                continue
            d_g = field(g[n, k] > 0.5, keep, spacing) if target_dist is None else target_dist[n, k]
            weight = d_g**alpha
            if not one_sided:
                weight = weight + field(guess[n, k], keep, spacing) ** alpha
            value[n, k] = ((p[n, k] - g[n, k]) ** 2 * weight)[keep].mean()
            normalizer[n, k] = 1
    return value, normalizer


def hard(loss: Array, valid: Array, thresh: float | None, min_kept: int | float) -> Array:
    """What is kept: above the threshold, or else the K hardest with ties."""
    count = int(valid.sum())
    k = min(min_kept, count) if isinstance(min_kept, int) else math.ceil(min_kept * count)
    keep = valid & (loss > -math.log(thresh)) if thresh is not None else np.zeros_like(valid)
    if keep.sum() < k:
        keep = valid & (loss >= np.sort(loss[valid])[::-1][k - 1])
    return keep


def ohem_cross_entropy(
    pred: Array,
    target: Array,
    *,
    thresh: float | None = 0.7,
    min_kept: int | float = 100000,
    ignore_index: int = 255,
    class_weight: list[float] | None = None,
) -> Reference:
    c = pred.shape[1]
    log_p = pred - np.log(np.exp(pred - pred.max(1, keepdims=True)).sum(1, keepdims=True)) - pred.max(1, keepdims=True)
    weight = np.ones(c) if class_weight is None else np.asarray(class_weight, float)
    weight = weight.reshape(1, c, *(1 for _ in pred.shape[2:]))
    if target.shape == pred.shape:
        valid = (target != ignore_index).all(1)
        loss = -np.where(valid[:, None], target * log_p, 0).sum(1)
        weighted = -np.where(valid[:, None], weight * target * log_p, 0).sum(1)
        keep = hard(loss, valid, thresh, min_kept)
        return np.where(keep, weighted, 0), keep
    labels = target.reshape(pred.shape[0], *pred.shape[2:])
    valid = labels != ignore_index
    hot = labels[:, None] == np.arange(c).reshape(weight.shape)
    loss = -np.where(hot, log_p, 0).sum(1)
    keep = hard(loss, valid, thresh, min_kept)
    share = np.where(keep, (hot * weight).sum(1), 0)
    return share * loss, share


def ohem_binary(
    pred: Array,
    target: Array,
    *,
    thresh: float | None = 0.7,
    min_kept: int | float = 100000,
    ignore_index: int = 255,
) -> Reference:
    shape = pred.shape if pred.ndim < 2 or pred.shape[1] != 1 else (pred.shape[0], *pred.shape[2:])
    x, t = pred.reshape(shape), target.reshape(shape)
    valid = t != ignore_index
    loss = np.where(valid, np.logaddexp(0, x) - x * np.where(valid, t, 0), 0)
    keep = hard(loss, valid, thresh, min_kept)
    return np.where(keep, loss, 0), keep


def per_region(
    measure: Callable[[Array, Array, bool], float],
    pred: Array,
    target: Array,
    *,
    ignore_index: int = 255,
    class_weight: list[float] | None = None,
    per_image: bool = True,
    classes: str | list[int] = "all",
    include_background: bool = True,
    activation: str = "auto",
) -> Reference:
    """``measure(p, g, soft)`` of the counted pixels of each image (or of the batch) and class, times its weight."""
    p, g, counted = read(pred, target, ignore_index, activation)
    n, c = p.shape[:2]
    weight = np.ones(c) if class_weight is None else np.asarray(class_weight, float)
    groups = [[i] for i in range(n)] if per_image else [list(range(n))]
    value, normalizer = np.zeros((len(groups), c)), np.zeros((len(groups), c))
    for row, images in enumerate(groups):
        for k in wanted(c, classes, ignore_index, include_background):
            pk = np.concatenate([p[i, k][counted[i, k]] for i in images] or [np.zeros(0)])
            gk = np.concatenate([g[i, k][counted[i, k]] for i in images] or [np.zeros(0)])
            if pk.size and (classes != "present" or gk.sum()):
                normalizer[row, k] = weight[k]
                value[row, k] = weight[k] * measure(pk, gk, target.dtype.kind == "f")
    return (value, normalizer) if per_image else (value[0], normalizer[0])


def tversky_index(p: Array, g: Array, soft: bool, alpha: float, beta: float, smooth: float) -> float:
    tp = (p.sum() + g.sum() - np.abs(p - g).sum()) / 2 if soft else (p * g).sum()
    fp, fn = p.sum() - tp, g.sum() - tp
    below = tp + alpha * fp + beta * fn + smooth
    return float((tp + smooth) / below) if below else 1.0


def tversky(
    pred: Array, target: Array, *, alpha: float = 0.5, beta: float = 0.5, smooth: float = 1.0, **options: object
) -> Reference:
    return per_region(lambda *pg: 1 - tversky_index(*pg, alpha, beta, smooth), pred, target, **options)


def focal_tversky(
    pred: Array,
    target: Array,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    gamma: float = 0.75,
    smooth: float = 1.0,
    **options: object,
) -> Reference:
    return per_region(lambda *pg: (1 - tversky_index(*pg, alpha, beta, smooth)) ** gamma, pred, target, **options)


def jaccard(pred: Array, target: Array, *, smooth: float = 1.0, **options: object) -> Reference:
    """Soft labels by the L1 form: the union is (P + G + |p - g|) / 2."""

    def measure(p: Array, g: Array, soft: bool) -> float:
        both = (p.sum() + g.sum() - np.abs(p - g).sum()) / 2 if soft else (p * g).sum()
        union = (p.sum() + g.sum() + np.abs(p - g).sum()) / 2 if soft else (p + g - p * g).sum()
        return float(1 - (both + smooth) / (union + smooth)) if union + smooth else 0.0

    return per_region(measure, pred, target, **options)


def mcc(pred: Array, target: Array, *, classes: str | list[int] = "present", **options: object) -> Reference:
    """From the four counts, as scikit-learn: 0/0 is 0, or here 1 where nothing is wrong."""

    def measure(p: Array, g: Array, soft: bool) -> float:
        tp, tn, fp, fn = (p * g).sum(), ((1 - p) * (1 - g)).sum(), (p * (1 - g)).sum(), ((1 - p) * g).sum()
        below = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
        if below == 0:
            return 0.0 if fp == fn == 0 else 1.0
        return float(1 - (tp * tn - fp * fn) / below)

    return per_region(measure, pred, target, classes=classes, **options)


def pixel_terms(
    pred: Array,
    target: Array,
    ignore_index: int,
    class_weight: list[float] | None,
    smoothing: float,
    gamma: float,
    alpha: float | None,
) -> tuple[float, float]:
    """Sum and normalizer of the (focal) cross-entropy over the pixels that count."""
    n, c = pred.shape[:2]
    p, g, counted = read(pred, target, ignore_index, "auto")
    x = pred.reshape(n, c, -1)
    if c == 1:
        p, g, x = p[counted], g[counted], x[counted]
        q, balance = g * (1 - p) + (1 - g) * p, 1 if alpha is None else alpha * g + (1 - alpha) * (1 - g)
        each = balance * q**gamma * (np.logaddexp(0, x) - g * x)
        return float(each.sum()), float(counted.sum())
    weight = np.ones(c) if class_weight is None else np.asarray(class_weight, float)
    total, normalizer = 0.0, 0.0
    for i in range(n):
        for pixel in np.flatnonzero(counted[i].all(0)):
            z = x[i, :, pixel]
            minus_log = np.log(np.exp(z - z.max()).sum()) + z.max() - z
            truth = (1 - smoothing) * g[i, :, pixel] + smoothing / c
            factor = (1 if alpha is None else alpha) * (1 - np.exp(-minus_log)) ** gamma
            total += (weight * truth * factor * minus_log).sum()
            normalizer += 1 if target.size == pred.size else weight @ g[i, :, pixel]
    return total, normalizer


def compound(
    pred: Array,
    target: Array,
    *,
    dice_weight: float = 1.0,
    pixel_weight: float = 1.0,
    label_smoothing: float = 0.0,
    gamma: float = 0.0,
    alpha: float | None = None,
    ignore_index: int = 255,
    class_weight: list[float] | None = None,
    **options: object,
) -> Reference:
    """The sum of both terms; and as normalizer what divides it to the sum of both means."""
    value, normalizer = dice(pred, target, ignore_index=ignore_index, class_weight=class_weight, **options)
    parts = [(value.sum(), normalizer.sum())]
    parts.append(pixel_terms(pred, target, ignore_index, class_weight, label_smoothing, gamma, alpha))
    total = sum(w * part for w, (part, _) in zip((dice_weight, pixel_weight), parts, strict=True))
    mean = sum(w * part / (n if n > 0 else 1) for w, (part, n) in zip((dice_weight, pixel_weight), parts, strict=True))
    return np.asarray(total), np.asarray(total / mean if mean else 0)


def dice_ce(pred: Array, target: Array, *, ce_weight: float = 1.0, **options: object) -> Reference:
    return compound(pred, target, pixel_weight=ce_weight, **options)


def dice_focal(
    pred: Array, target: Array, *, focal_weight: float = 1.0, gamma: float = 2.0, **options: object
) -> Reference:
    return compound(pred, target, pixel_weight=focal_weight, gamma=gamma, **options)
