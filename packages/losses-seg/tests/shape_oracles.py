"""NumPy references in float64 of the losses of contours, skeletons and points, written from the papers."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt, generate_binary_structure, grey_dilation, grey_erosion

from losses_testkit import Array, Reference

from .oracles import read, sigmoid, wanted


def surface(
    pred: Array,
    target: Array,
    *,
    ignore_index: int = 255,
    classes: str | list[int] = "all",
    include_background: bool = True,
    spacing: float | list[float] | None = None,
    activation: str = "auto",
    target_dist: Array | None = None,
) -> Reference:
    shape = pred.shape
    p, g, counted = (x.reshape(shape) for x in read(pred, target, ignore_index, activation))
    unit = float(np.min(1.0 if spacing is None else spacing))
    value, normalizer = np.zeros(shape[:2]), np.zeros(shape[:2])
    for n in range(shape[0]):
        for k in wanted(shape[1], classes, ignore_index, include_background):
            keep = counted[n, k]
            inside, outside = (g[n, k] > 0.5) & keep, (g[n, k] <= 0.5) & keep
            if not keep.any() or (classes == "present" and not inside.any()):
                continue
            phi = np.zeros(shape[2:])
            if target_dist is not None:
                phi = target_dist[n, k]
            elif inside.any() and outside.any():
                phi = distance_transform_edt(~inside, sampling=spacing)
                phi[inside] = unit - distance_transform_edt(~outside, sampling=spacing)[inside]
            value[n, k] = (p[n, k] * phi)[keep].mean()
            normalizer[n, k] = 1
    return value, normalizer


def at_points(image: Array, points: Array) -> list[list[tuple[float, float]]]:
    """For each point (x, y) in [0,1], the values of the pixels around it, and the area of each under the point."""
    height, width = image.shape
    result = []
    for x, y in points:
        column, row, near = x * width - 0.5, y * height - 0.5, []
        for i in range(max(0, int(row) - 1), min(height, int(row) + 3)):
            for j in range(max(0, int(column) - 1), min(width, int(column) + 3)):
                area = max(0.0, 1 - abs(i - row)) * max(0.0, 1 - abs(j - column))
                if area:
                    near.append((float(image[i, j]), area))
        result.append(near)
    return result


def point_mask(
    pred: Array,
    target: Array,
    *,
    bce_weight: float = 1.0,
    dice_weight: float = 1.0,
    smooth: float = 1.0,
    ignore_index: int | None = None,
    point_coords: Array,
) -> Reference:
    value, normalizer = np.zeros(len(pred)), np.zeros(len(pred))
    for m, points in enumerate(point_coords):
        logits = at_points(pred[m].reshape(pred.shape[-2:]), points)
        labels = at_points(target[m].reshape(target.shape[-2:]).astype(float), points)
        kept = [k for k, near in enumerate(labels) if all(v != ignore_index for v, _ in near)]
        if not kept:
            continue
        x, y = (np.array([sum(v * a for v, a in each[k]) for k in kept]) for each in (logits, labels))
        p = sigmoid(x)
        bce = (np.logaddexp(0, x) - x * y).mean()
        below = p.sum() + y.sum() + smooth
        value[m] = bce_weight * bce + dice_weight * (1 - (2 * (p * y).sum() + smooth) / below if below else 0)
        normalizer[m] = 1
    return value, normalizer


def erode(x: Array, keep: Array) -> Array:
    """Minimum over a pixel and its neighbours along the axes, of which those outside hold more than any value."""
    cross = generate_binary_structure(x.ndim, 1)
    return np.where(keep, grey_erosion(np.where(keep, x, 2.0), footprint=cross, mode="constant", cval=2.0), 0)


def dilate(x: Array, keep: Array, *, block: bool = True) -> Array:
    around = generate_binary_structure(x.ndim, x.ndim if block else 1)
    return np.where(keep, grey_dilation(np.where(keep, x, -1.0), footprint=around, mode="constant", cval=-1.0), 0)


def skeleton_of(x: Array, keep: Array, iterations: int) -> Array:
    """Union of what each opening removes, 1 - Π (1 - D), from eroded images that are computed from scratch."""
    rest = np.ones_like(x)
    for step in range(iterations + 1):
        eroded = np.where(keep, x, 0)
        for _ in range(step):
            eroded = erode(eroded, keep)
        rest = rest * (1 - np.maximum(eroded - dilate(erode(eroded, keep), keep), 0))
    return np.where(keep, 1 - rest, 0)


def cl_dice(
    pred: Array,
    target: Array,
    *,
    iterations: int = 10,
    smooth: float = 1.0,
    ignore_index: int = 255,
    class_weight: list[float] | None = None,
    per_image: bool = True,
    classes: str | list[int] = "all",
    include_background: bool = False,
    activation: str = "auto",
) -> Reference:
    shape = pred.shape
    p, g, counted = (x.reshape(shape) for x in read(pred, target, ignore_index, activation))
    weight = np.ones(shape[1]) if class_weight is None else np.asarray(class_weight, float)
    groups = [[i] for i in range(shape[0])] if per_image else [list(range(shape[0]))]
    value, normalizer = np.zeros((len(groups), shape[1])), np.zeros((len(groups), shape[1]))
    for row, images in enumerate(groups):
        for k in wanted(shape[1], classes, ignore_index, include_background):
            sums = np.zeros(4)
            area = pixels = 0
            for n in images:
                keep = counted[n, k]
                truth, mine = g[n, k], skeleton_of(p[n, k], keep, iterations)
                true = skeleton_of(truth, keep, iterations)
                sums += [(mine * truth)[keep].sum(), mine.sum(), (true * p[n, k])[keep].sum(), true.sum()]
                area, pixels = area + truth[keep].sum(), pixels + keep.sum()
            if not pixels or (classes == "present" and not area):
                continue
            precision, sensitivity = (
                (a + smooth) / (b + smooth) if b + smooth else 1.0 for a, b in (sums[:2], sums[2:])
            )
            both = precision + sensitivity
            normalizer[row, k] = weight[k]
            value[row, k] = weight[k] * (1 - (2 * precision * sensitivity / both if both else 0))
    return (value, normalizer) if per_image else (value[0], normalizer[0])


def skeleton_recall(
    pred: Array,
    target: Array,
    *,
    smooth: float = 1.0,
    iterations: int = 10,
    tube: int = 2,
    ignore_index: int = 255,
    class_weight: list[float] | None = None,
    per_image: bool = True,
    classes: str | list[int] = "all",
    include_background: bool = False,
    activation: str = "auto",
    skeleton: Array | None = None,
) -> Reference:
    shape = pred.shape
    p, g, counted = (x.reshape(shape) for x in read(pred, target, ignore_index, activation))
    weight = np.ones(shape[1]) if class_weight is None else np.asarray(class_weight, float)
    groups = [[i] for i in range(shape[0])] if per_image else [list(range(shape[0]))]
    value, normalizer = np.zeros((len(groups), shape[1])), np.zeros((len(groups), shape[1]))
    if skeleton is not None and skeleton.size < pred.size:
        skeleton = skeleton.reshape(shape[0], 1, *shape[2:]) == np.arange(shape[1]).reshape(-1, *(1 for _ in shape[2:]))
    for row, images in enumerate(groups):
        for k in wanted(shape[1], classes, ignore_index, include_background):
            found = length = pixels = 0.0
            for n in images:
                keep = counted[n, k]
                if skeleton is None:
                    mask = ((g[n, k] > 0.5) & keep).astype(float)
                    line = skeleton_of(mask, keep, iterations)
                    for _ in range(tube):
                        line = dilate(line, keep, block=False)
                    line = line * mask
                else:
                    line = skeleton[n, k].astype(float)
                found, length, pixels = (
                    found + (p[n, k] * line)[keep].sum(),
                    length + line[keep].sum(),
                    pixels + keep.sum(),
                )
            if not pixels or (classes == "present" and not length):
                continue
            normalizer[row, k] = weight[k]
            value[row, k] = weight[k] * (1 - (found + smooth) / (length + smooth) if length + smooth else 0)
    return (value, normalizer) if per_image else (value[0], normalizer[0])
