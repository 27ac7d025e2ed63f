"""Which digit is it, where some digits are rare in the training data? All of them count alike on the test data."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import TensorDataset

from losses_core import load_config
from losses_core.config import Config

from .classification import EXAMPLES, Classification


class LongTail(Classification):
    metric = "accuracy"
    goal = 0.8
    epochs = 40

    @classmethod
    def others(cls, loss: Mapping[str, Any]) -> dict[str, Config]:
        return {"CrossEntropyLoss": "CrossEntropyLoss"}

    def __init__(self) -> None:
        super().__init__()
        images, labels = self.train.tensors
        counts = load_config(EXAMPLES / "long_tail.yaml")["class_counts"]
        kept = torch.cat([(labels == digit).nonzero()[:count, 0] for digit, count in enumerate(counts)])
        self.train = TensorDataset(images[kept], labels[kept])


def build() -> LongTail:
    return LongTail()
