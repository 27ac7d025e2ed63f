"""Kernels of the segmentation losses, registered by being imported."""

from losses_seg._kernels import boundary, hausdorff, lovasz_loss, pixels, region_sums, surface

__all__ = ["boundary", "hausdorff", "lovasz_loss", "pixels", "region_sums", "surface"]
