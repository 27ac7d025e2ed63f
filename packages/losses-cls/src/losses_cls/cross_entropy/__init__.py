"""Cross-entropy: softmax over class indices or probabilities, and binary per element."""

# Everything below is written by `nox -s generate`.
from losses_cls.cross_entropy.binary import BinaryCrossEntropyLoss, binary_cross_entropy
from losses_cls.cross_entropy.softmax import CrossEntropyLoss, SoftCrossEntropyLoss, cross_entropy, soft_cross_entropy

__all__ = [
    "BinaryCrossEntropyLoss",
    "CrossEntropyLoss",
    "SoftCrossEntropyLoss",
    "binary_cross_entropy",
    "cross_entropy",
    "soft_cross_entropy",
]
