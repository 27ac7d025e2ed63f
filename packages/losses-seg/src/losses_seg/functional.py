"""The pure functions behind the segmentation losses: unreduced, without state.

Each loss returns ``Unreduced(value, normalizer)``; ``value.sum() / normalizer.sum()`` is its mean.
"""

# Everything below is written by `nox -s generate`.
from losses_seg._distance import distance_transform
from losses_seg.boundary_loss import boundary_loss, hausdorff_loss
from losses_seg.dice_loss import binary_dice_loss, dice_loss, generalized_dice_loss
from losses_seg.lovasz_loss import lovasz_hinge_loss, lovasz_loss
from losses_seg.ohem_loss import ohem_binary_loss, ohem_cross_entropy_loss

__all__ = [
    "binary_dice_loss",
    "boundary_loss",
    "dice_loss",
    "distance_transform",
    "generalized_dice_loss",
    "hausdorff_loss",
    "lovasz_hinge_loss",
    "lovasz_loss",
    "ohem_binary_loss",
    "ohem_cross_entropy_loss",
]
