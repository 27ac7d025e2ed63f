"""Distillation losses: logits, features and relations between samples.

The student is ``pred``, the teacher ``target``. Each class is declared as an entry point and so appears in
``losses_core.LOSSES``; the pure functions are in ``losses_distill.functional``.
"""

# Everything below is written by `nox -s generate`.
from losses_distill import _kernels as _kernels
from losses_distill import functional
from losses_distill._version import __version__
from losses_distill.binary_kd import BinaryKDLoss
from losses_distill.feature_loss import (
    AttentionLoss,
    CWDLoss,
    FeatureCosineLoss,
    FeatureL1Loss,
    FeatureMSELoss,
    MGDLoss,
    PKDLoss,
)
from losses_distill.jsd_loss import GeneralizedJSDLoss
from losses_distill.kd_loss import DISTLoss, DKDLoss, KDLoss, KnowledgeDistillationLoss
from losses_distill.relation_loss import CRDLoss, PKTLoss, RKDAngleLoss, RKDDistanceLoss, SPLoss
from losses_distill.sparse_kd import SparseKDLoss

__all__ = [
    "AttentionLoss",
    "BinaryKDLoss",
    "CRDLoss",
    "CWDLoss",
    "DISTLoss",
    "DKDLoss",
    "FeatureCosineLoss",
    "FeatureL1Loss",
    "FeatureMSELoss",
    "GeneralizedJSDLoss",
    "KDLoss",
    "KnowledgeDistillationLoss",
    "MGDLoss",
    "PKDLoss",
    "PKTLoss",
    "RKDAngleLoss",
    "RKDDistanceLoss",
    "SPLoss",
    "SparseKDLoss",
    "__version__",
    "functional",
]
