"""Kernels of the segmentation losses, registered by being imported."""

from losses_seg._kernels import (
    boundary,
    compound,
    hausdorff,
    lovasz_loss,
    pixels,
    points,
    region_sums,
    skeleton,
    surface,
)

__all__ = ["boundary", "compound", "hausdorff", "lovasz_loss", "pixels", "points", "region_sums", "skeleton", "surface"]
