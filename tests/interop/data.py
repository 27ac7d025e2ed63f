"""A small task for every framework: how bright is a pixel, in three classes?"""

from __future__ import annotations

import torch
from torch import Tensor


def images(number: int = 16, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images (N,1,8,8), and the labels of their pixels: 1 where bright, 2 where very bright, else 0."""
    noise = torch.rand(number, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return noise, (noise > 0.5).squeeze(1).long() + (noise > 0.8).squeeze(1).long()


NEEDED = {"LogitAdjustedCrossEntropyLoss": {"class_counts": [5, 3, 1]}, "SeesawLoss": {"num_classes": 3}}
"""Options without a default."""
