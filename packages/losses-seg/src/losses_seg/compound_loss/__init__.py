"""Dice together with cross-entropy (as nnU-Net, arXiv 1809.10486) or the focal loss (AnatomyNet, arXiv 1808.05238)."""

# Everything below is written by `nox -s generate`.
from losses_seg.compound_loss.dice_ce import DiceCELoss, dice_ce_loss
from losses_seg.compound_loss.dice_focal import DiceFocalLoss, dice_focal_loss

__all__ = ["DiceCELoss", "DiceFocalLoss", "dice_ce_loss", "dice_focal_loss"]
