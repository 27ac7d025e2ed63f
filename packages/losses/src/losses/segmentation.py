"""Segmentation losses: all that `losses_seg` exports, its `functional` among it."""

from losses._tasks import not_installed

try:
    from losses_seg import *  # noqa: F403  # forwards whatever there is
    from losses_seg import __all__ as __all__
except ModuleNotFoundError as error:
    if missing := not_installed(error, __name__):
        raise missing from None
    raise
