"""Tversky losses (Salehi et al., MLMI 2017, arXiv 1706.05721), and the Jaccard loss."""

# Everything below is written by `nox -s generate`.
from losses_seg.tversky_loss.focal import FocalTverskyLoss, focal_tversky_loss
from losses_seg.tversky_loss.jaccard import JaccardLoss, jaccard_loss
from losses_seg.tversky_loss.tversky import TverskyLoss, tversky_loss

__all__ = ["FocalTverskyLoss", "JaccardLoss", "TverskyLoss", "focal_tversky_loss", "jaccard_loss", "tversky_loss"]
