"""The detection losses give the numbers of the libraries that have them, where those are right.

Left out, because they compute something else: EIoU of mmdet, which is Extended-IoU; its SIoU without ``neg_gamma``,
whose loss falls as boxes move apart; its balanced L1 for other beta than 1, whose gradient jumps.
"""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core.utils import compute_iou
from losses_det import functional as ours

from .peers import Peers, compare

BOXES = {
    "giou": ours.giou_loss,
    "diou": ours.diou_loss,
    "ciou": ours.ciou_loss,
}


@pytest.fixture
def boxes() -> tuple[Tensor, Tensor]:
    """Pairs of boxes that overlap more or less, or not at all."""
    generator = torch.Generator().manual_seed(0)

    def random(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(200, 2, generator=generator, dtype=torch.float64)

    centre, half, stretch = random(0, 30), random(2, 12), random(0.7, 1.4)
    away = random(-1, 1) * torch.linspace(0, 3, 200, dtype=torch.float64).unsqueeze(1) * half
    first = torch.cat((centre - half, centre + half), -1)
    second = torch.cat((centre + away - half * stretch, centre + away + half * stretch), -1)
    iou = compute_iou(first, second)
    assert (iou == 0).any()
    assert (iou > 0.5).any()
    return first, second


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("giou", "torchvision.ops.giou_loss:generalized_box_iou_loss"),
        ("diou", "torchvision.ops.diou_loss:distance_box_iou_loss"),
        ("ciou", "torchvision.ops.ciou_loss:complete_box_iou_loss"),
        ("giou", "fvcore.nn.giou_loss:giou_loss"),
        ("giou", "mmdet.models.losses.iou_loss:giou_loss"),
        ("diou", "mmdet.models.losses.iou_loss:diou_loss"),
    ],
)
def test_boxes(peer: Peers, boxes: tuple[Tensor, Tensor], name: str, loss: str) -> None:
    compare(BOXES[name], peer(loss, *boxes, reduction="none"), *boxes)


def test_giou_of_monai(peer: Peers, boxes: tuple[Tensor, Tensor]) -> None:
    """It computes in float32."""
    theirs = peer("monai.losses.giou_loss:BoxGIoULoss", *boxes, reduction="none")
    compare(ours.giou_loss, theirs, *boxes, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mode", ["linear", "log", "square"])
def test_iou_of_mmdet(peer: Peers, boxes: tuple[Tensor, Tensor], mode: Any) -> None:
    """It clamps the IoU in every mode, so that boxes apart cost eps less than 1."""
    theirs = peer("mmdet.models.losses.iou_loss:iou_loss", *boxes, mode=mode, reduction="none")
    compare(lambda *pair: ours.iou_loss(*pair, mode=mode), theirs, *boxes, atol=2e-6)


def test_ciou_of_mmdet(peer: Peers, boxes: tuple[Tensor, Tensor]) -> None:
    """It weighs the aspect ratio only where the IoU is above 0.5."""
    above = compute_iou(*boxes) > 0.5
    pair = boxes[0][above], boxes[1][above]
    compare(ours.ciou_loss, peer("mmdet.models.losses.iou_loss:ciou_loss", *pair, reduction="none"), *pair)


def test_siou_of_mmdet(peer: Peers, boxes: tuple[Tensor, Tensor]) -> None:
    """It cuts the loss off at 2, and with it the gradient."""
    below = ours.siou_loss(*boxes) < 1.99
    pair = boxes[0][below], boxes[1][below]
    theirs = peer("mmdet.models.losses.iou_loss:siou_loss", *pair, neg_gamma=True, reduction="none")
    compare(ours.siou_loss, theirs, *pair)


@pytest.fixture
def differences() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    pred, target = torch.randn(2, 100, 4, generator=generator, dtype=torch.float64)
    return pred, target


@pytest.mark.parametrize("beta", [0.11, 0.5, 1.0, 2.0])
def test_smooth_l1(peer: Peers, differences: tuple[Tensor, Tensor], beta: float) -> None:
    def our(*pair: Tensor) -> Tensor:
        return ours.smooth_l1_loss(*pair, beta=beta)

    compare(our, peer("torch.nn.functional:smooth_l1_loss", *differences, beta=beta, reduction="none"), *differences)
    compare(our, peer("fvcore.nn.smooth_l1_loss:smooth_l1_loss", *differences, beta=beta), *differences)


def test_l1(peer: Peers, differences: tuple[Tensor, Tensor]) -> None:
    compare(ours.l1_loss, peer("torch.nn.functional:l1_loss", *differences, reduction="none"), *differences)


@pytest.mark.parametrize("options", [{}, {"alpha": 0.3, "gamma": 2.0}])
def test_balanced_l1(peer: Peers, differences: tuple[Tensor, Tensor], options: dict[str, float]) -> None:
    loss = "mmdet.models.losses.balanced_l1_loss:balanced_l1_loss"
    theirs = peer(loss, *differences, reduction="none", **options)
    compare(lambda *pair: ours.balanced_l1_loss(*pair, **options), theirs, *differences)


@pytest.mark.parametrize("beta", [1.0, 2.0, 2.5])
def test_quality_focal(peer: Peers, beta: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(100, 9, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 10, (100,), generator=generator), torch.rand(100, generator=generator).double()
    theirs = peer("mmdet.models.losses.gfocal_loss:quality_focal_loss", logits, target, beta=beta, reduction="none")
    compare(lambda *pair: ours.quality_focal_loss(*pair, beta=beta), theirs, logits, target)


def test_distribution_focal(peer: Peers) -> None:
    """Its targets end below reg_max: there is no bin to the right of the last one."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(100, 17, generator=generator, dtype=torch.float64)
    distance = 15.99 * torch.rand(100, generator=generator, dtype=torch.float64)
    theirs = peer("mmdet.models.losses.gfocal_loss:distribution_focal_loss", logits, distance, reduction="none")
    compare(ours.distribution_focal_loss, theirs, logits, distance)


@pytest.mark.parametrize("options", [{}, {"alpha": 0.5, "gamma": 1.5}, {"iou_weighted": False}])
def test_varifocal(peer: Peers, options: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(100, 9, generator=generator, dtype=torch.float64)
    scores = F.relu(torch.rand(100, 9, generator=generator, dtype=torch.float64) - 0.5)
    loss = "mmdet.models.losses.varifocal_loss:varifocal_loss"
    theirs = peer(loss, logits, scores, reduction="none", **options)
    compare(lambda *pair: ours.varifocal_loss(*pair, **options), theirs, logits, scores)


@pytest.mark.parametrize("options", [{}, {"alpha": 1.0, "gamma": 2.0}])
def test_gaussian_focal(peer: Peers, options: dict[str, float]) -> None:
    """It takes probabilities, and adds 1e-12 to them."""
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(100, 9, generator=generator, dtype=torch.float64).clamp(0.01, 0.99)
    heatmap = (1.2 * torch.rand(100, 9, generator=generator, dtype=torch.float64)).clamp(max=1)
    theirs = peer(
        "mmdet.models.losses.gaussian_focal_loss:gaussian_focal_loss", p, heatmap, reduction="none", **options
    )
    compare(lambda *pair: ours.gaussian_focal_loss(*pair, use_sigmoid=False, **options), theirs, p, heatmap)
