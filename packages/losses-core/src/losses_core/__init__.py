"""`losses_core`: the base class, the registry, the config builder and the utilities of the losses packages."""

from losses_core._version import __version__
from losses_core.base_loss import BaseLoss, CommonOptions, LossOptions
from losses_core.errors import ConfigError, InputError, LossesError
from losses_core.registry import LOSSES
from losses_core.utils import Unreduced

__all__ = ["LOSSES", "BaseLoss", "CommonOptions", "ConfigError", "InputError", "LossOptions", "LossesError", "Unreduced", "__version__"]
