"""The losses of contours, skeletons and points give the numbers of the libraries that have them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core import Unreduced
from losses_seg import functional as ours

from .peers import Peers, compare

SINGLE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-6}  # for peers that compute in float32


def mean_of(loss: Callable[..., Any], **options: Any) -> Callable[..., Tensor]:
    def function(*pair: Tensor) -> Tensor:
        value = loss(*pair, **options)
        return (value.value if isinstance(value, Unreduced) else value).mean()

    return function


@pytest.fixture
def regions() -> tuple[Tensor, Tensor]:
    """Logits (N,C,H,W), and labels in connected regions; one class is absent from the second image."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(2, 4, 24, 30, generator=generator, dtype=torch.float64)
    labels = F.avg_pool2d(torch.randn(2, 4, 24, 30, generator=generator), 7, 1, 3).argmax(1)
    labels[1] = labels[1].clamp(max=2)
    return logits, labels


def test_surface(peer: Peers, regions: tuple[Tensor, Tensor]) -> None:
    logits, labels = regions
    options = {"softmax": True, "to_onehot_y": True}
    for background in (True, False):
        theirs = peer(
            "monai.losses:BoundaryLoss", logits, labels.unsqueeze(1), include_background=background, **options
        )
        if background:
            compare(mean_of(ours.surface_loss), theirs, logits, labels, **SINGLE)
        else:
            compare(
                lambda *pair: ours.surface_loss(*pair, include_background=False).value[:, 1:].mean(),
                theirs,
                logits,
                labels,
                **SINGLE,
            )


def test_cl_dice(peer: Peers) -> None:
    """One foreground class, without what MONAI adds below."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(2, 1, 20, 24, generator=generator, dtype=torch.float64)
    mask = (torch.rand(2, 1, 20, 24, generator=generator) > 0.4).double()
    for iterations in (0, 3):
        options = {"iter_": iterations, "sigmoid": True, "smooth": 1e-12}
        theirs = peer("monai.losses:SoftclDiceLoss", logits, mask, **options)
        compare(mean_of(ours.soft_cl_dice_loss, iterations=iterations), theirs, logits, mask)
