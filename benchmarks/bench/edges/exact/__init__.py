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
    asymmetric_single,
    binary_cross_entropy,
    cross_entropy,
    hard_mining,
    jsd,
    logit_adjusted,
    poly_cross_entropy,
    poly_focal,
    seesaw,
    sigmoid_focal,
    softmax_focal,
    two_way,
    zlpr,
)
from bench.edges.exact.regions import dice, generalized_dice, lovasz, lovasz_hinge
from bench.edges.exact.teachers import (
    angles,
    attention,
    contrast,
    correlated,
    cosine,
    decoupled,
    distances,
    distilled,
    kernels,
    squared,
)

__all__ = [
    "IGNORED",
    "Array",
    "Exact",
    "absolute",
    "angles",
    "asymmetric",
    "asymmetric_single",
    "attention",
    "binary_cross_entropy",
    "box_loss",
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
    "jsd",
    "kernels",
    "logit_adjusted",
    "lovasz",
    "lovasz_hinge",
    "poly_cross_entropy",
    "poly_focal",
    "quality_focal",
    "seesaw",
    "sigmoid_focal",
    "smooth_l1",
    "softmax_focal",
    "squared",
    "two_way",
    "unknown",
    "varifocal",
    "zlpr",
]
