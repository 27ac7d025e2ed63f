"""The Tversky index of regions, of which Jaccard's is one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from losses_core.errors import InputError
from losses_core.kernels import Prepared
from losses_seg._region import Region, positive, prepare_region


def prepare_tversky(pred: Any, target: Any, **options: Any) -> Prepared:
    """Check the arguments of a Tversky loss (`losses_core.kernels.Prepare`)."""
    for name in ("alpha", "beta"):
        if options[name] < 0:
            raise InputError(f"{name}: expected a number >= 0; got {options[name]}.")
    if options.get("gamma", 1) <= 0:
        raise InputError(f"gamma: expected a number > 0; got {options['gamma']}.")
    return prepare_region(pred, target, **options)


def tversky_distance(sums: Region, alpha: float, beta: float, smooth: float) -> Tensor:
    """1 - (TP + s) / (TP + α FP + β FN + s), without cancellation; 0 for 0/0."""
    tp = sums.intersection
    errors = alpha * (sums.pred - tp) + beta * (sums.target - tp)
    return errors / positive(tp + errors, smooth)


def focus(distance: Tensor, gamma: float) -> Tensor:
    """``distance ** gamma``, with a finite derivative at 0: below the machine epsilon it is linear."""
    return distance * distance.clamp(min=torch.finfo(distance.dtype).eps).pow(gamma - 1)
