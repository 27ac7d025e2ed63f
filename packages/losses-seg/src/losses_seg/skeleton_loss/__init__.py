"""Losses of centre lines: clDice (Shit et al., arXiv 2003.07311), skeleton recall (Kirchhoff, arXiv 2404.03010)."""

# Everything below is written by `nox -s generate`.
from losses_seg.skeleton_loss.cldice import SoftClDiceLoss, soft_cl_dice_loss
from losses_seg.skeleton_loss.recall import SkeletonRecallLoss, skeleton_recall_loss

__all__ = ["SkeletonRecallLoss", "SoftClDiceLoss", "skeleton_recall_loss", "soft_cl_dice_loss"]
