"""Contour losses: boundary (Bokhovkin and Burnaev, arXiv 1905.07852), Hausdorff distance (Karimi, arXiv 1904.10030)."""

# Everything below is written by `nox -s generate`.
from losses_seg.boundary_loss.boundary import BoundaryLoss, boundary_loss
from losses_seg.boundary_loss.hausdorff import HDLoss, hausdorff_loss
from losses_seg.boundary_loss.surface import SurfaceLoss, surface_loss

__all__ = ["BoundaryLoss", "HDLoss", "SurfaceLoss", "boundary_loss", "hausdorff_loss", "surface_loss"]
