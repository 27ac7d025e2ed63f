"""Distillation of relations between samples: RKD, PKT, CRD."""

# Everything below is written by `nox -s generate`.
from losses_distill.relation_loss.crd import CRDLoss, crd_loss
from losses_distill.relation_loss.pkt import PKTLoss, pkt_loss
from losses_distill.relation_loss.rkd import RKDAngleLoss, RKDDistanceLoss, rkd_angle_loss, rkd_distance_loss
from losses_distill.relation_loss.sp import SPLoss, sp_loss

__all__ = [
    "CRDLoss",
    "PKTLoss",
    "RKDAngleLoss",
    "RKDDistanceLoss",
    "SPLoss",
    "crd_loss",
    "pkt_loss",
    "rkd_angle_loss",
    "rkd_distance_loss",
    "sp_loss",
]
