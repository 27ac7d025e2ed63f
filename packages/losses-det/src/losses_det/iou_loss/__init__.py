"""The IoU family of box losses."""

# Everything below is written by `nox -s generate`.
from losses_det.iou_loss.classes import CIoULoss, DIoULoss, EIoULoss, GIoULoss, IoULoss
from losses_det.iou_loss.functions import ciou_loss, diou_loss, eiou_loss, giou_loss, iou_loss, siou_loss
from losses_det.iou_loss.mpdiou import MPDIoULoss, mpdiou_loss
from losses_det.iou_loss.nwd import NWDLoss, nwd_loss
from losses_det.iou_loss.siou import SIoULoss
from losses_det.iou_loss.wiou import WIoULoss, wiou_loss

__all__ = [
    "CIoULoss",
    "DIoULoss",
    "EIoULoss",
    "GIoULoss",
    "IoULoss",
    "MPDIoULoss",
    "NWDLoss",
    "SIoULoss",
    "WIoULoss",
    "ciou_loss",
    "diou_loss",
    "eiou_loss",
    "giou_loss",
    "iou_loss",
    "mpdiou_loss",
    "nwd_loss",
    "siou_loss",
    "wiou_loss",
]
