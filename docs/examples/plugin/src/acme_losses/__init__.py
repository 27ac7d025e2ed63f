"""Losses of the Acme project."""

from acme_losses.wing_loss import WingLoss, wing_loss

__all__ = ["WingLoss", "wing_loss"]
