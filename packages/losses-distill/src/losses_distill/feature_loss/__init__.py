"""Distillation of features: elementwise distances, attention transfer, masked generation."""

# Everything below is written by `nox -s generate`.
from losses_distill.feature_loss.attention import AttentionLoss, attention_loss
from losses_distill.feature_loss.cwd import CWDLoss, cwd_loss
from losses_distill.feature_loss.elementwise import (
    FeatureCosineLoss,
    FeatureL1Loss,
    FeatureMSELoss,
    feature_cosine_loss,
    feature_l1_loss,
    feature_mse_loss,
)
from losses_distill.feature_loss.mgd import MGDLoss, mgd_loss
from losses_distill.feature_loss.pkd import PKDLoss, pkd_loss

__all__ = [
    "AttentionLoss",
    "CWDLoss",
    "FeatureCosineLoss",
    "FeatureL1Loss",
    "FeatureMSELoss",
    "MGDLoss",
    "PKDLoss",
    "attention_loss",
    "cwd_loss",
    "feature_cosine_loss",
    "feature_l1_loss",
    "feature_mse_loss",
    "mgd_loss",
    "pkd_loss",
]
