"""The pure functions behind the segmentation losses: unreduced, without state.

Each loss returns ``Unreduced(value, normalizer)``; ``value.sum() / normalizer.sum()`` is its mean.
"""

# Everything below is written by `nox -s generate`.
from losses_seg._distance import distance_transform
from losses_seg.boundary_loss import boundary_loss, hausdorff_loss, surface_loss
from losses_seg.compound_loss import dice_ce_loss, dice_focal_loss
from losses_seg.dice_loss import binary_dice_loss, dice_loss, generalized_dice_loss
from losses_seg.lovasz_loss import lovasz_hinge_loss, lovasz_loss
from losses_seg.mcc_loss import mcc_loss
from losses_seg.ohem_loss import ohem_binary_loss, ohem_cross_entropy_loss
from losses_seg.point_loss import point_mask_loss
from losses_seg.skeleton_loss import skeleton_recall_loss, soft_cl_dice_loss
from losses_seg.tversky_loss import focal_tversky_loss, jaccard_loss, tversky_loss

__all__ = [
    "binary_dice_loss",
    "boundary_loss",
    "dice_ce_loss",
    "dice_focal_loss",
    "dice_loss",
    "distance_transform",
    "focal_tversky_loss",
    "generalized_dice_loss",
    "hausdorff_loss",
    "jaccard_loss",
    "lovasz_hinge_loss",
    "lovasz_loss",
    "mcc_loss",
    "ohem_binary_loss",
    "ohem_cross_entropy_loss",
    "point_mask_loss",
    "skeleton_recall_loss",
    "soft_cl_dice_loss",
    "surface_loss",
    "tversky_loss",
]
