"""The pure functions behind the detection losses: unreduced, without state."""

# Everything below is written by `nox -s generate`.
from losses_det.fine_grained import (
    bins_to_distance,
    box_to_distance,
    decoupled_distillation_focal_loss,
    distance_to_bins,
    distance_to_box,
    fine_grained_localization_loss,
    weighting_function,
)
from losses_det.gaussian_focal import gaussian_focal_loss
from losses_det.gfocal_loss import distribution_focal_loss, quality_focal_loss
from losses_det.iou_loss import (
    ciou_loss,
    diou_loss,
    eiou_loss,
    giou_loss,
    iou_loss,
    mpdiou_loss,
    nwd_loss,
    siou_loss,
    wiou_loss,
)
from losses_det.keypoint_loss import oks_loss
from losses_det.quality_bce import iou_aware_bce_loss, matchability_aware_loss
from losses_det.rotated_loss import gwd_loss, kld_loss, probiou_loss
from losses_det.smooth_l1 import balanced_l1_loss, l1_loss, smooth_l1_loss
from losses_det.varifocal_loss import varifocal_loss

__all__ = [
    "balanced_l1_loss",
    "bins_to_distance",
    "box_to_distance",
    "ciou_loss",
    "decoupled_distillation_focal_loss",
    "diou_loss",
    "distance_to_bins",
    "distance_to_box",
    "distribution_focal_loss",
    "eiou_loss",
    "fine_grained_localization_loss",
    "gaussian_focal_loss",
    "giou_loss",
    "gwd_loss",
    "iou_aware_bce_loss",
    "iou_loss",
    "kld_loss",
    "l1_loss",
    "matchability_aware_loss",
    "mpdiou_loss",
    "nwd_loss",
    "oks_loss",
    "probiou_loss",
    "quality_focal_loss",
    "siou_loss",
    "smooth_l1_loss",
    "varifocal_loss",
    "weighting_function",
    "wiou_loss",
]
