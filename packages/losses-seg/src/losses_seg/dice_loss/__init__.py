"""Dice losses: soft (Milletari et al., 3DV 2016, arXiv 1606.04797) and generalised (Sudre et al., arXiv 1707.03237)."""

# Everything below is written by `nox -s generate`.
from losses_seg.dice_loss.generalized import GeneralizedDiceLoss, generalized_dice_loss
from losses_seg.dice_loss.soft import BinaryDiceLoss, DiceLoss, binary_dice_loss, dice_loss

__all__ = [
    "BinaryDiceLoss",
    "DiceLoss",
    "GeneralizedDiceLoss",
    "binary_dice_loss",
    "dice_loss",
    "generalized_dice_loss",
]
