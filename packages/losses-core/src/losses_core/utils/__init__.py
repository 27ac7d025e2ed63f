"""Functions around losses: reductions, labels, class weights, overlap, and the building blocks of the families."""

from losses_core.utils.loss_utils import (
    compute_giou,
    compute_iou,
    convert_to_one_hot,
    focal_weight,
    get_class_weight,
    sigmoid_focal_loss,
)
from losses_core.utils.weight_reduce import Unreduced, reduce_loss, weight_reduce_loss, weighted_loss

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
