"""Kernels: losses and their gradients, block by block. Importing this package registers them."""

from losses_det._kernels import gfocal_loss, iou_loss, smooth_l1, varifocal_loss

__all__ = ["gfocal_loss", "iou_loss", "smooth_l1", "varifocal_loss"]
