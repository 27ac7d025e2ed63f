"""Online hard example mining for segmentation."""

# Everything below is written by `nox -s generate`.
from losses_seg.ohem_loss.classes import OHEMBinaryLoss, OHEMCrossEntropyLoss
from losses_seg.ohem_loss.functions import ohem_binary_loss, ohem_cross_entropy_loss

__all__ = ["OHEMBinaryLoss", "OHEMCrossEntropyLoss", "ohem_binary_loss", "ohem_cross_entropy_loss"]
