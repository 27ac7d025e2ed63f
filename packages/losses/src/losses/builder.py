"""From a config to a loss: all that `losses_core.builder` exports."""

from losses_core.builder import *  # noqa: F403  # forwards whatever there is
from losses_core.builder import __all__ as __all__
