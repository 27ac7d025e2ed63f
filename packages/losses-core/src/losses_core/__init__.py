"""The core of the losses packages: base class, registry, config builder, combinations, utilities.

Losses themselves live in the task packages (losses-cls, losses-det, losses-seg, losses-distill). Each declares its
classes as entry points, so every installed one appears in `LOSSES` without being imported.

The modules, and torch with them, are imported when a name is first asked for: what needs no torch, as `losses list` and
the completion of a shell, does not wait for it.
"""

from __future__ import annotations

import importlib
import threading
from typing import TYPE_CHECKING, Any

from losses_core._version import __version__

if TYPE_CHECKING:
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

_MODULES = (
    "base_loss",
    "builder",
    "chunked",
    "combined",
    "config",
    "distributed",
    "errors",
    "kernels",
    "layered",
    "learnable",
    "registry",
    "schedules",
    "utils",
    "utils.loss_utils",
    "utils.value_checks",
    "weighting",
)
"""The modules that the names come from."""

_lock = threading.RLock()


def __getattr__(name: str) -> Any:
    """Import every module, in one thread: a part of them, imported by several, could be seen half-initialised."""
    if name not in __all__ and name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with _lock:
        modules = [importlib.import_module(f"{__name__}.{module}") for module in _MODULES]
        globals().update(
            {known: vars(module)[known] for module in modules for known in __all__ if known in vars(module)}
        )
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
