"""Focal losses: softmax, sigmoid and multi-label (Lin et al., ICCV 2017, arXiv 1708.02002)."""

# Everything below is written by `nox -s generate`.
from losses_cls.focal_loss.sigmoid import BinaryFocalLoss, MultiLabelFocalLoss, binary_focal_loss, index_focal_loss
from losses_cls.focal_loss.softmax import FocalLoss, focal_loss, softmax_focal_loss

__all__ = [
    "BinaryFocalLoss",
    "FocalLoss",
    "MultiLabelFocalLoss",
    "binary_focal_loss",
    "focal_loss",
    "index_focal_loss",
    "softmax_focal_loss",
]
