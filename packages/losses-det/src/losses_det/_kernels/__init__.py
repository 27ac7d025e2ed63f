"""Kernels: losses and their gradients, block by block. Importing this package registers them."""

from losses_det._kernels import gaussian_focal, gfocal_loss, iou_loss, keypoint_loss, smooth_l1, varifocal_loss

__all__ = ["gaussian_focal", "gfocal_loss", "iou_loss", "keypoint_loss", "smooth_l1", "varifocal_loss"]
