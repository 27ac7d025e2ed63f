"""Losses of centre lines: clDice (Shit et al., arXiv 2003.07311), skeleton recall (Kirchhoff et al., arXiv 2404.03010)."""

# Everything below is written by `nox -s generate`.
from losses_seg.skeleton_loss.cldice import SoftClDiceLoss, soft_cl_dice_loss

__all__ = ["SoftClDiceLoss", "soft_cl_dice_loss"]
