"""Which digit is it, where three labels in five of the training data are wrong? Those of the test data are right."""

import torch
from torch.utils.data import TensorDataset

from ._classify import Classification

WRONG = 0.6


class NoisyLabels(Classification):
    title = f"noisy labels: {WRONG:.0%} of the training labels are wrong"
    goal = 0.75
    epochs = 30

    def __init__(self) -> None:
        super().__init__()
        images, labels = self.train.tensors
        generator = torch.Generator().manual_seed(0)
        wrong = torch.rand(len(labels), generator=generator) < WRONG
        other = (labels + torch.randint(1, 10, labels.shape, generator=generator)) % 10
        self.train = TensorDataset(images, torch.where(wrong, other, labels))


def build() -> NoisyLabels:
    return NoisyLabels()
