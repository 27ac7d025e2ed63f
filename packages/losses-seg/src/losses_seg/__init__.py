"""Segmentation losses for any number of spatial axes: regions, contours, centre lines, hard pixels, points.

Each class is declared as an entry point and so appears in ``losses_core.LOSSES``; the pure functions are in
``losses_seg.functional``.
"""

# Everything below is written by `nox -s generate`.
from losses_seg import _kernels as _kernels
from losses_seg import functional
from losses_seg._version import __version__
from losses_seg.boundary_loss import BoundaryLoss, HDLoss, SurfaceLoss
from losses_seg.compound_loss import DiceCELoss, DiceFocalLoss
from losses_seg.dice_loss import BinaryDiceLoss, DiceLoss, GeneralizedDiceLoss
from losses_seg.lovasz_loss import LovaszHingeLoss, LovaszLoss
from losses_seg.mcc_loss import MCCLoss
from losses_seg.ohem_loss import OHEMBinaryLoss, OHEMCrossEntropyLoss
from losses_seg.point_loss import PointMaskLoss
from losses_seg.skeleton_loss import SkeletonRecallLoss, SoftClDiceLoss
from losses_seg.tversky_loss import FocalTverskyLoss, JaccardLoss, TverskyLoss

__all__ = [
    "BinaryDiceLoss",
    "BoundaryLoss",
    "DiceCELoss",
    "DiceFocalLoss",
    "DiceLoss",
    "FocalTverskyLoss",
    "GeneralizedDiceLoss",
    "HDLoss",
    "JaccardLoss",
    "LovaszHingeLoss",
    "LovaszLoss",
    "MCCLoss",
    "OHEMBinaryLoss",
    "OHEMCrossEntropyLoss",
    "PointMaskLoss",
    "SkeletonRecallLoss",
    "SoftClDiceLoss",
    "SurfaceLoss",
    "TverskyLoss",
    "__version__",
    "functional",
]
