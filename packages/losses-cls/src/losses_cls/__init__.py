"""Classification losses: softmax, binary and multi-label.

Each class is declared as an entry point and so appears in ``losses_core.LOSSES``; the pure functions are in
``losses_cls.functional``.
"""

# Everything below is written by `nox -s generate`.
from losses_cls import _kernels as _kernels
from losses_cls import functional
from losses_cls._version import __version__
from losses_cls.asymmetric_loss import AsymmetricLoss, AsymmetricLossOptimized, AsymmetricLossSingleLabel
from losses_cls.cross_entropy import BinaryCrossEntropyLoss, CrossEntropyLoss, SoftCrossEntropyLoss
from losses_cls.focal_loss import BinaryFocalLoss, FocalLoss, MultiLabelFocalLoss
from losses_cls.jsd_loss import JSDCrossEntropyLoss
from losses_cls.label_smooth import LabelSmoothLoss
from losses_cls.logit_adjusted import LogitAdjustedCrossEntropyLoss
from losses_cls.multilabel_loss import TwoWayLoss, ZLPRLoss
from losses_cls.poly_loss import PolyCrossEntropyLoss, PolyFocalLoss
from losses_cls.seesaw_loss import SeesawLoss

__all__ = [
    "AsymmetricLoss",
    "AsymmetricLossOptimized",
    "AsymmetricLossSingleLabel",
    "BinaryCrossEntropyLoss",
    "BinaryFocalLoss",
    "CrossEntropyLoss",
    "FocalLoss",
    "JSDCrossEntropyLoss",
    "LabelSmoothLoss",
    "LogitAdjustedCrossEntropyLoss",
    "MultiLabelFocalLoss",
    "PolyCrossEntropyLoss",
    "PolyFocalLoss",
    "SeesawLoss",
    "SoftCrossEntropyLoss",
    "TwoWayLoss",
    "ZLPRLoss",
    "__version__",
    "functional",
]
