"""Distillation of features: elementwise distances, attention transfer, masked generation."""

# Everything below is written by `nox -s generate`.
from losses_distill.feature_loss.attention import AttentionLoss, attention_loss
from losses_distill.feature_loss.elementwise import (
    FeatureCosineLoss,
    FeatureL1Loss,
    FeatureMSELoss,
    feature_cosine_loss,
    feature_l1_loss,
    feature_mse_loss,
)
from losses_distill.feature_loss.mgd import MGDLoss, mgd_loss

__all__ = [
    "AttentionLoss",
    "FeatureCosineLoss",
    "FeatureL1Loss",
    "FeatureMSELoss",
    "MGDLoss",
    "attention_loss",
    "feature_cosine_loss",
    "feature_l1_loss",
    "feature_mse_loss",
    "mgd_loss",
]
