"""The pure functions behind the classification losses: unreduced, without state."""

# Everything below is written by `nox -s generate`.
from losses_cls.asymmetric_loss import asymmetric_loss
from losses_cls.cross_entropy import binary_cross_entropy, cross_entropy, soft_cross_entropy
from losses_cls.focal_loss import binary_focal_loss, focal_loss, index_focal_loss, softmax_focal_loss
from losses_cls.label_smooth import label_smooth_loss

__all__ = [
    "asymmetric_loss",
    "binary_cross_entropy",
    "binary_focal_loss",
    "cross_entropy",
    "focal_loss",
    "index_focal_loss",
    "label_smooth_loss",
    "soft_cross_entropy",
    "softmax_focal_loss",
]
