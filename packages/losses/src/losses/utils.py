"""Functions around losses: all that `losses_core.utils` exports."""

from losses_core.utils import *  # noqa: F403  # forwards whatever there is
from losses_core.utils import __all__ as __all__
