"""NumPy references in float64 of the losses of contours, skeletons and points, written from the papers."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt

from losses_testkit import Array, Reference

from .oracles import read, wanted


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
