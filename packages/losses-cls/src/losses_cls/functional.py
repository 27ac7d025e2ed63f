"""The pure functions behind the classification losses: unreduced, without state."""

# Everything below is written by `nox -s generate`.
from losses_cls.asymmetric_loss import asymmetric_loss, asymmetric_loss_single_label
from losses_cls.cross_entropy import binary_cross_entropy, cross_entropy, soft_cross_entropy
from losses_cls.focal_loss import binary_focal_loss, focal_loss, index_focal_loss, softmax_focal_loss
from losses_cls.jsd_loss import jsd_cross_entropy_loss
from losses_cls.label_smooth import label_smooth_loss
from losses_cls.logit_adjusted import logit_adjusted_cross_entropy_loss, logit_adjustment
from losses_cls.multilabel_loss import two_way_loss, zlpr_loss
from losses_cls.poly_loss import poly_cross_entropy_loss, poly_focal_loss
from losses_cls.seesaw_loss import seesaw_loss

__all__ = [
    "asymmetric_loss",
    "asymmetric_loss_single_label",
    "binary_cross_entropy",
    "binary_focal_loss",
    "cross_entropy",
    "focal_loss",
    "index_focal_loss",
    "jsd_cross_entropy_loss",
    "label_smooth_loss",
    "logit_adjusted_cross_entropy_loss",
    "logit_adjustment",
    "poly_cross_entropy_loss",
    "poly_focal_loss",
    "seesaw_loss",
    "soft_cross_entropy",
    "softmax_focal_loss",
    "two_way_loss",
    "zlpr_loss",
]
