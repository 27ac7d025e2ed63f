"""Kernels: losses and their gradients, block by block. Importing this package registers them."""

from losses_det._kernels import (
    fine_grained,
    gaussian_focal,
    gfocal_loss,
    iou_loss,
    keypoint_loss,
    quality_bce,
    rotated_loss,
    smooth_l1,
    varifocal_loss,
)

__all__ = [
    "fine_grained",
    "gaussian_focal",
    "gfocal_loss",
    "iou_loss",
    "keypoint_loss",
    "quality_bce",
    "rotated_loss",
    "smooth_l1",
    "varifocal_loss",
]
