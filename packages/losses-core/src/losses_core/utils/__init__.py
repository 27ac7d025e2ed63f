"""Functions around losses: reductions, labels, class weights, overlap, and the building blocks of the families."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from losses_core.utils.weight_reduce import Unreduced, reduce_loss, weight_reduce_loss, weighted_loss

if TYPE_CHECKING:
    from losses_core.utils.loss_utils import (
        compute_giou,
        compute_iou,
        convert_to_one_hot,
        focal_weight,
        get_class_weight,
        sigmoid_focal_loss,
    )

__all__ = [
    "Unreduced",
    "compute_giou",
    "compute_iou",
    "convert_to_one_hot",
    "focal_weight",
    "get_class_weight",
    "reduce_loss",
    "sigmoid_focal_loss",
    "weight_reduce_loss",
    "weighted_loss",
]


def __getattr__(name: str) -> Any:
    """Load `losses_core.utils.loss_utils` on first use: its losses are built on modules of this package."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from losses_core.utils import loss_utils

    return getattr(loss_utils, name)
