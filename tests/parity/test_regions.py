"""The losses of overlaps give the numbers of the libraries that have them, where those are right."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from losses_core import Unreduced
from losses_seg import functional as ours

from .peers import Peers, compare

ROUGH: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-6}  # for peers that add a constant to a root or to a denominator


def mean_of(loss: Callable[..., Unreduced], **options: Any) -> Callable[..., Tensor]:
    def mean(pred: Tensor, target: Tensor) -> Tensor:
        value, normalizer, _ = loss(pred, target, **options)
        return value.sum() / (value.numel() if normalizer is None else normalizer.sum())

    return mean


@pytest.fixture
def pixels() -> tuple[Tensor, Tensor]:
    """Logits (N,C,H,W), and labels (N,H,W) of which each image has all."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (3, 12, 10), generator=generator)
    return 2 * torch.randn(3, 4, 12, 10, generator=generator, dtype=torch.float64), labels


@pytest.fixture
def mask(pixels: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Logits (N,1,H,W) and masks."""
    return pixels[0][:, :1].contiguous(), (pixels[1] > 1).double().unsqueeze(1)


MONAI: dict[str, Any] = {"softmax": True, "to_onehot_y": True}


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.5), (0.3, 0.7)])
def test_tversky(peer: Peers, pixels: tuple[Tensor, Tensor], alpha: float, beta: float) -> None:
    x, y = pixels
    theirs = peer("monai.losses:TverskyLoss", x, y.unsqueeze(1), alpha=alpha, beta=beta, **MONAI)
    compare(mean_of(ours.tversky_loss, alpha=alpha, beta=beta, smooth=1e-5), theirs, x, y)
    theirs = peer("kornia.losses:tversky_loss", x, y, alpha=alpha, beta=beta, eps=1e-5)
    compare(mean_of(ours.tversky_loss, alpha=alpha, beta=beta, smooth=0.0), theirs, x, y, **ROUGH)
    smp = "segmentation_models_pytorch.losses:TverskyLoss"
    theirs = peer(smp, x, y, mode="multiclass", alpha=alpha, beta=beta, smooth=2.0)
    compare(mean_of(ours.tversky_loss, alpha=alpha, beta=beta, smooth=2.0, per_image=False), theirs, x, y)


def test_soft_tversky(peer: Peers, pixels: tuple[Tensor, Tensor]) -> None:
    x, q = pixels[0], pixels[0].flip(0).softmax(1)
    theirs = peer("monai.losses:TverskyLoss", x, q, softmax=True, soft_label=True, alpha=0.2, beta=0.8)
    compare(mean_of(ours.tversky_loss, alpha=0.2, beta=0.8, smooth=1e-5), theirs, x, q)


def test_jaccard(peer: Peers, pixels: tuple[Tensor, Tensor]) -> None:
    x, y = pixels
    theirs = peer("monai.losses:DiceLoss", x, y.unsqueeze(1), jaccard=True, smooth_nr=4.0, smooth_dr=4.0, **MONAI)
    compare(mean_of(ours.jaccard_loss, smooth=2.0), theirs, x, y)
    theirs = peer("segmentation_models_pytorch.losses:JaccardLoss", x, y, mode="multiclass", smooth=2.0)
    compare(mean_of(ours.jaccard_loss, smooth=2.0, per_image=False), theirs, x, y)


def test_mcc(peer: Peers, pixels: tuple[Tensor, Tensor], mask: tuple[Tensor, Tensor]) -> None:
    x, y = pixels
    theirs = peer("monai.losses:MCCLoss", x, y.unsqueeze(1), **MONAI)
    compare(mean_of(ours.mcc_loss, classes="all"), theirs, x, y, **ROUGH)
    p, g = mask[0].sigmoid(), mask[1]
    theirs = peer("segmentation_models_pytorch.losses:MCCLoss", p, g, eps=0.0)
    compare(mean_of(ours.mcc_loss, per_image=False, activation="none"), theirs, p, g)


@pytest.mark.parametrize("batch", [False, True])
def test_dice_and_cross_entropy(peer: Peers, pixels: tuple[Tensor, Tensor], batch: bool) -> None:
    x, y = pixels
    one: dict[str, Any] = {"smooth_nr": 1.0, "smooth_dr": 1.0, "batch": batch}
    theirs = peer("monai.losses:DiceCELoss", x, y.unsqueeze(1), lambda_ce=0.5, label_smoothing=0.1, **one, **MONAI)
    options = {"ce_weight": 0.5, "label_smoothing": 0.1, "exponent": 1, "per_image": not batch}
    compare(mean_of(ours.dice_ce_loss, **options), theirs, x, y)


def test_dice_and_binary_losses(peer: Peers, mask: tuple[Tensor, Tensor]) -> None:
    one: dict[str, Any] = {"smooth_nr": 1.0, "smooth_dr": 1.0, "sigmoid": True}
    theirs = peer("monai.losses:DiceCELoss", *mask, **one)
    compare(mean_of(ours.dice_ce_loss, exponent=1), theirs, *mask)
    theirs = peer("monai.losses:DiceFocalLoss", *mask, gamma=1.5, lambda_focal=0.5, **one)
    compare(mean_of(ours.dice_focal_loss, exponent=1, gamma=1.5, focal_weight=0.5), theirs, *mask)
