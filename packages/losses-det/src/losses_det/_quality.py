"""Binary cross-entropy against continuous scores, focused: what quality focal and varifocal loss share."""

from __future__ import annotations

import torch
from torch import Tensor

from losses_core.utils.stable import binary_cross_entropy, power, probability_cross_entropy


def distance_and_entropy(x: Tensor, t: Tensor, use_sigmoid: bool) -> tuple[Tensor, Tensor]:
    """p - t and the binary cross-entropy of each element, of logits or of probabilities ``x`` and scores ``t``."""
    if use_sigmoid:
        return torch.sigmoid(x) - t, binary_cross_entropy(x, t)
    return x - t, probability_cross_entropy(x, t)


def focused(distance: Tensor, gamma: float) -> Tensor:
    """|distance|^γ, with a finite derivative at 0."""
    return power(distance if gamma in (2, 4) else distance.abs(), gamma)
