"""Distributions of box sides over uneven bins."""

# Everything below is written by `nox -s generate`.
from losses_det.fine_grained.bins import (
    bins_to_distance,
    box_to_distance,
    distance_to_bins,
    distance_to_box,
    weighting_function,
)
from losses_det.fine_grained.distillation import DecoupledDistillationFocalLoss, decoupled_distillation_focal_loss
from losses_det.fine_grained.localization import FineGrainedLocalizationLoss, fine_grained_localization_loss

__all__ = [
    "DecoupledDistillationFocalLoss",
    "FineGrainedLocalizationLoss",
    "bins_to_distance",
    "box_to_distance",
    "decoupled_distillation_focal_loss",
    "distance_to_bins",
    "distance_to_box",
    "fine_grained_localization_loss",
    "weighting_function",
]
