"""The data of every task: 1 797 real handwritten digits of 8 × 8 pixels that ship inside scikit-learn."""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor


def load() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(images, labels) to train on and to test on: images (N, 1, 8, 8) in [0, 1], labels (N,)."""
    images, labels = load_digits(return_X_y=True)
    split = train_test_split(images / 16.0, labels, test_size=0.25, random_state=0, stratify=labels)
    train_images, test_images = (torch.from_numpy(part).float().view(-1, 1, 8, 8) for part in split[:2])
    train_labels, test_labels = (torch.from_numpy(part).long() for part in split[2:])
    return (train_images, train_labels), (test_images, test_labels)
