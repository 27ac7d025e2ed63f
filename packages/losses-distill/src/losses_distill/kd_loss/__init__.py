"""Distillation of logits: KD (Hinton et al. 2015), DKD (Zhao et al. 2022), DIST (Huang et al. 2022)."""

# Everything below is written by `nox -s generate`.
from losses_distill.kd_loss.dist import DISTLoss, dist_loss
from losses_distill.kd_loss.dkd import DKDLoss, dkd_loss
from losses_distill.kd_loss.kd import KDLoss, KnowledgeDistillationLoss, kd_loss

__all__ = ["DISTLoss", "DKDLoss", "KDLoss", "KnowledgeDistillationLoss", "dist_loss", "dkd_loss", "kd_loss"]
