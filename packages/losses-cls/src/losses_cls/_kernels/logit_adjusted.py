"""Kernels of cross-entropy with adjusted logits: those of cross-entropy on a block to which the adjustment is added."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from losses_cls._kernels.cross_entropy import cross_entropy_of_labels, cross_entropy_of_probabilities, label_bound
from losses_cls.logit_adjusted import adjusted_cross_entropy
from losses_core.kernels import kernel
from losses_core.utils.focal import along_channels


@kernel(
    adjusted_cross_entropy,
    bound=label_bound,
    temporaries=5,
    large_blocks=True,
    supports=lambda pred, target, **_: target.ndim < pred.ndim,
)
def adjusted_cross_entropy_of_labels(
    x: Tensor, target: Tensor, *, adjustment: Tensor, **options: Any
) -> tuple[Tensor, Tensor | None]:
    """Value and gradient of class indices."""
    return cross_entropy_of_labels(x + along_channels(adjustment, x), target, **options)


@kernel(
    adjusted_cross_entropy,
    temporaries=6,
    large_blocks=True,
    supports=lambda pred, target, **_: target.ndim == pred.ndim,
)
def adjusted_cross_entropy_of_probabilities(
    x: Tensor, q: Tensor, *, adjustment: Tensor, **options: Any
) -> tuple[Tensor, Tensor | None]:
    """Value and gradient of probabilities."""
    return cross_entropy_of_probabilities(x + along_channels(adjustment, x), q, **options)
