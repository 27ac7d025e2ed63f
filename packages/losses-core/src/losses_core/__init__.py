"""The core of the losses packages: base class, registry, config builder, combinations, utilities.

Losses themselves live in the task packages (losses-cls, losses-det, losses-seg, losses-distill). Each declares its
classes as entry points, so every installed one appears in `LOSSES` without being imported.
"""

from losses_core import _kernels as _kernels
from losses_core._version import __version__
from losses_core.base_loss import BaseLoss, CommonOptions, LossOptions
from losses_core.builder import build_loss, build_multi_loss
from losses_core.chunked import ChunkedLoss
from losses_core.combined import CombinedLoss, LossTerms
from losses_core.config import load_config
from losses_core.errors import (
    AmbiguousLossError,
    ConfigError,
    DuplicateLossError,
    InputError,
    LossesError,
    LossLoadError,
    LossNotInstalledError,
    RegistryError,
    UnknownLossError,
)
from losses_core.kernels import explain, use_definitions
from losses_core.layered import LayeredLoss
from losses_core.learnable import check_optimizer, trainable_parameters
from losses_core.registry import LOSSES, LossInfo, Registry
from losses_core.utils import (
    Unreduced,
    compute_giou,
    compute_iou,
    convert_to_one_hot,
    focal_weight,
    get_class_weight,
    reduce_loss,
    sigmoid_focal_loss,
    weight_reduce_loss,
    weighted_loss,
)
from losses_core.utils.value_checks import debug

__all__ = [
    "LOSSES",
    "AmbiguousLossError",
    "BaseLoss",
    "ChunkedLoss",
    "CombinedLoss",
    "CommonOptions",
    "ConfigError",
    "DuplicateLossError",
    "InputError",
    "LayeredLoss",
    "LossInfo",
    "LossLoadError",
    "LossNotInstalledError",
    "LossOptions",
    "LossTerms",
    "LossesError",
    "Registry",
    "RegistryError",
    "UnknownLossError",
    "Unreduced",
    "__version__",
    "build_loss",
    "build_multi_loss",
    "check_optimizer",
    "compute_giou",
    "compute_iou",
    "convert_to_one_hot",
    "debug",
    "explain",
    "focal_weight",
    "get_class_weight",
    "load_config",
    "reduce_loss",
    "sigmoid_focal_loss",
    "trainable_parameters",
    "use_definitions",
    "weight_reduce_loss",
    "weighted_loss",
]
