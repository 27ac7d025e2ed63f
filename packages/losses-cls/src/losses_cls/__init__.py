"""Classification losses: cross-entropy, focal, label smoothing, asymmetric.

Each class is declared as an entry point and so appears in ``losses_core.LOSSES``; the pure functions are in
``losses_cls.functional``.
"""

# Everything below is written by `nox -s generate`.
from losses_cls import _kernels as _kernels
from losses_cls import functional
from losses_cls._version import __version__
from losses_cls.asymmetric_loss import AsymmetricLoss, AsymmetricLossOptimized
from losses_cls.cross_entropy import BinaryCrossEntropyLoss, CrossEntropyLoss, SoftCrossEntropyLoss
from losses_cls.focal_loss import BinaryFocalLoss, FocalLoss, MultiLabelFocalLoss
from losses_cls.label_smooth import LabelSmoothLoss

__all__ = [
    "AsymmetricLoss",
    "AsymmetricLossOptimized",
    "BinaryCrossEntropyLoss",
    "BinaryFocalLoss",
    "CrossEntropyLoss",
    "FocalLoss",
    "LabelSmoothLoss",
    "MultiLabelFocalLoss",
    "SoftCrossEntropyLoss",
    "__version__",
    "functional",
]
