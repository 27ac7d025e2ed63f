"""Kernels of the segmentation losses, registered by being imported."""

from losses_seg._kernels import boundary, hausdorff, pixels, region_sums

__all__ = ["boundary", "hausdorff", "pixels", "region_sums"]
