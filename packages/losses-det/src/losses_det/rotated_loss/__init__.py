"""Losses of rotated boxes."""

# Everything below is written by `nox -s generate`.
from losses_det.rotated_loss.classes import GWDLoss, KLDLoss, ProbIoULoss
from losses_det.rotated_loss.functions import gwd_loss, kld_loss, probiou_loss

__all__ = ["GWDLoss", "KLDLoss", "ProbIoULoss", "gwd_loss", "kld_loss", "probiou_loss"]
