"""The pure functions behind the distillation losses: unreduced, without state or learnable parts."""

# Everything below is written by `nox -s generate`.
from losses_distill.binary_kd import binary_kd_loss
from losses_distill.feature_loss import (
    attention_loss,
    cwd_loss,
    feature_cosine_loss,
    feature_l1_loss,
    feature_mse_loss,
    mgd_loss,
    pkd_loss,
)
from losses_distill.jsd_loss import generalized_jsd_loss
from losses_distill.kd_loss import dist_loss, dkd_loss, kd_loss
from losses_distill.relation_loss import crd_loss, pkt_loss, rkd_angle_loss, rkd_distance_loss, sp_loss
from losses_distill.sparse_kd import sparse_kd_loss

__all__ = [
    "attention_loss",
    "binary_kd_loss",
    "crd_loss",
    "cwd_loss",
    "dist_loss",
    "dkd_loss",
    "feature_cosine_loss",
    "feature_l1_loss",
    "feature_mse_loss",
    "generalized_jsd_loss",
    "kd_loss",
    "mgd_loss",
    "pkd_loss",
    "pkt_loss",
    "rkd_angle_loss",
    "rkd_distance_loss",
    "sp_loss",
    "sparse_kd_loss",
]
