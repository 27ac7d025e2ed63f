"""What all of them use."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Target = NDArray[Any]
Exact = Callable[..., float]
IGNORED = 255


def log_softmax(x: Array, axis: int = 1) -> Array:
    shifted = x - x.max(axis, keepdims=True)
    value: Array = shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))
    return value


def sigmoid(x: Array) -> Array:
    """Without overflow."""
    return np.exp(-np.logaddexp(0, -x))


def unknown(*_: object) -> float:
    """For losses whose value is not checked."""
    return math.nan


def mean(x: Array) -> float:
    return float(x.mean()) if x.size else 0.0


def huber(x: Array) -> Array:
    return np.where(np.abs(x) < 1, 0.5 * x**2, np.abs(x) - 0.5)


def unit(x: Array) -> Array:
    """Rows of length 1; a row of zeros stays."""
    length = np.linalg.norm(x.reshape(len(x), -1), axis=1, keepdims=True)
    rows: Array = np.divide(x.reshape(len(x), -1), length, out=np.zeros((len(x), x[:1].size)), where=length > 0)
    return rows
