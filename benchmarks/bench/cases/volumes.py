"""Two large volumes: counted on ``meta``, not timed. The inputs with values are small, to check that results agree."""

from __future__ import annotations

from torch import nn

from bench import inputs, textbook
from bench.case import Case, Peer
from bench.cases.segmentation import MONAI_DICE

_SPATIAL = (2, 3, 4)

CASES = [
    Case(
        "ce_volume_2x8",
        package="losses-cls",
        config={"type": "CrossEntropyLoss"},
        inputs=inputs.labelled(2, 8, 32, 32, 16),
        peers={"torch": Peer(nn.CrossEntropyLoss)},
        grows=_SPATIAL,
    ),
    Case(
        "dice_volume_2x8",
        package="losses-seg",
        config={"type": "DiceLoss"},
        inputs=inputs.labelled(2, 8, 32, 32, 16),
        peers={"monai": MONAI_DICE, "textbook": Peer(lambda: textbook.dice)},
        grows=_SPATIAL,
        budget=2.5,
    ),
]
