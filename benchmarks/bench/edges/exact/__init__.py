"""What is right: the losses in NumPy float64, from the formulas, finite wherever the formula has a limit.

Options say how libraries define one loss differently. A label, or a binary target, of `IGNORED` does not count; where
nothing counts the loss is 0.
"""

from bench.edges.exact.boxes import (
    absolute,
    box_loss,
    distribution_focal,
    quality_focal,
    smooth_l1,
    varifocal,
)
from bench.edges.exact.common import IGNORED, Array, Exact, unknown
from bench.edges.exact.places import (
    asymmetric,
    binary_cross_entropy,
    cross_entropy,
    hard_mining,
    sigmoid_focal,
    softmax_focal,
)
from bench.edges.exact.regions import dice, generalized_dice, lovasz, lovasz_hinge
from bench.edges.exact.teachers import (
    angles,
    attention,
    binary,
    channels,
    contrast,
    correlated,
    cosine,
    decoupled,
    distances,
    distilled,
    jensen_shannon,
    kernels,
    listed,
    similarities,
    squared,
    standardized,
)

__all__ = [
    "IGNORED",
    "Array",
    "Exact",
    "absolute",
    "angles",
    "asymmetric",
    "attention",
    "binary",
    "binary_cross_entropy",
    "box_loss",
    "channels",
    "contrast",
    "correlated",
    "cosine",
    "cross_entropy",
    "decoupled",
    "dice",
    "distances",
    "distilled",
    "distribution_focal",
    "generalized_dice",
    "hard_mining",
    "jensen_shannon",
    "kernels",
    "listed",
    "lovasz",
    "lovasz_hinge",
    "quality_focal",
    "sigmoid_focal",
    "similarities",
    "smooth_l1",
    "softmax_focal",
    "squared",
    "standardized",
    "unknown",
    "varifocal",
]
