"""The base class of every loss, and its options: from `losses_core.base_loss`."""

from losses_core.base_loss import BaseLoss, CommonOptions, LossOptions

__all__ = ["BaseLoss", "CommonOptions", "LossOptions"]
