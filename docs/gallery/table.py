"""The plots of all families, and the losses they are of."""

from __future__ import annotations

from gallery import classification, detection, distillation, segmentation
from gallery.plot import Plot
from losses_core import LOSSES, BaseLoss

TABLE: dict[str, Plot] = classification.PLOTS | detection.PLOTS | segmentation.PLOTS | distillation.PLOTS


def registered() -> dict[str, type[BaseLoss]]:
    """The losses of the installed packages by the name of their class: an alias is no loss of its own."""
    packaged = [name for name in LOSSES if LOSSES.describe(name).distribution is not None]
    return {LOSSES[name].__name__: LOSSES[name] for name in packaged}


def gaps() -> list[str]:
    """What of the table and the registry does not fit together."""
    known = registered()
    lacking = [
        f"{name} is registered and has no plot: add it to PLOTS of its family in docs/gallery"
        for name in known
        if name not in TABLE
    ]
    return lacking + [
        f"TABLE has a plot of {name}, which no installed package declares" for name in TABLE if name not in known
    ]
