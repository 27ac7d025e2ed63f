"""The pure functions behind the distillation losses: unreduced, without state or learnable parts."""

# Everything below is written by `nox -s generate`.
from losses_distill.feature_loss import attention_loss, feature_cosine_loss, feature_l1_loss, feature_mse_loss, mgd_loss
from losses_distill.kd_loss import dist_loss, dkd_loss, kd_loss
from losses_distill.relation_loss import crd_loss, pkt_loss, rkd_angle_loss, rkd_distance_loss

__all__ = [
    "attention_loss",
    "crd_loss",
    "dist_loss",
    "dkd_loss",
    "feature_cosine_loss",
    "feature_l1_loss",
    "feature_mse_loss",
    "kd_loss",
    "mgd_loss",
    "pkt_loss",
    "rkd_angle_loss",
    "rkd_distance_loss",
]
