"""Detection losses: the IoU family, the L1 family, quality, distribution and varifocal loss.

Each class is declared as an entry point and so appears in ``losses_core.LOSSES``; the pure functions are in
``losses_det.functional``.
"""

# Everything below is written by `nox -s generate`.
from losses_det import _kernels as _kernels
from losses_det import functional
from losses_det._version import __version__
from losses_det.fine_grained import DecoupledDistillationFocalLoss, FineGrainedLocalizationLoss
from losses_det.gaussian_focal import GaussianFocalLoss
from losses_det.gfocal_loss import DistributionFocalLoss, QualityFocalLoss
from losses_det.iou_loss import CIoULoss, DIoULoss, EIoULoss, GIoULoss, IoULoss, MPDIoULoss, NWDLoss, SIoULoss, WIoULoss
from losses_det.keypoint_loss import OKSLoss
from losses_det.quality_bce import IoUAwareBCELoss, MALoss, MatchabilityAwareLoss
from losses_det.rotated_loss import GWDLoss, KLDLoss, ProbIoULoss
from losses_det.smooth_l1 import BalancedL1Loss, L1Loss, SmoothL1Loss
from losses_det.varifocal_loss import VariFocalLoss, VarifocalLoss

__all__ = [
    "BalancedL1Loss",
    "CIoULoss",
    "DIoULoss",
    "DecoupledDistillationFocalLoss",
    "DistributionFocalLoss",
    "EIoULoss",
    "FineGrainedLocalizationLoss",
    "GIoULoss",
    "GWDLoss",
    "GaussianFocalLoss",
    "IoUAwareBCELoss",
    "IoULoss",
    "KLDLoss",
    "L1Loss",
    "MALoss",
    "MPDIoULoss",
    "MatchabilityAwareLoss",
    "NWDLoss",
    "OKSLoss",
    "ProbIoULoss",
    "QualityFocalLoss",
    "SIoULoss",
    "SmoothL1Loss",
    "VariFocalLoss",
    "VarifocalLoss",
    "WIoULoss",
    "__version__",
    "functional",
]
