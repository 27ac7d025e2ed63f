"""The matcher and its costs give the pairs and the numbers of transformers."""

import importlib
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from losses_det.matching import HungarianMatcher, pairwise_cost

pytestmark = pytest.mark.filterwarnings("default")  # those of transformers are theirs to mend

SIZES = (7, 0, 30, 60)  # the last are more than there are queries


def theirs(module: str, name: str) -> Any:
    """An object of transformers; without it, or what its matchers need, the test is skipped."""
    for needed in ("transformers", "scipy", "PIL"):
        pytest.importorskip(needed)
    return getattr(importlib.import_module(f"transformers.{module}"), name)


@pytest.fixture
def batch() -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    """The outputs of a detector with 40 queries, 19 classes and the background, and the targets of four images."""
    generator = torch.Generator().manual_seed(0)

    def boxes(*shape: int) -> Tensor:
        centre, size = (torch.rand(*shape, 2, generator=generator) for _ in range(2))
        return torch.cat((0.2 + 0.6 * centre, 0.05 + 0.3 * size), -1)

    outputs = {"logits": 2 * torch.randn(4, 40, 20, generator=generator), "pred_boxes": boxes(4, 40)}
    targets = [{"class_labels": torch.randint(19, (n,), generator=generator), "boxes": boxes(n)} for n in SIZES]
    return outputs, targets


def assert_same_pairs(costs: dict[str, float], matcher: Any, outputs: Any, targets: Any) -> None:
    ours, pairs = HungarianMatcher(costs)(outputs, targets), matcher(outputs, targets)
    assert [len(i) for i, _ in pairs] == [min(n, 40) for n in SIZES]
    for (i, j), (k, m) in zip(ours, pairs, strict=True):
        assert torch.equal(i, k)
        assert torch.equal(j, m)


def test_pairs_of_detr(batch: Any) -> None:
    matcher = theirs("loss.loss_for_object_detection", "HungarianMatcher")(class_cost=1, bbox_cost=5, giou_cost=2)
    assert_same_pairs({"softmax": 1, "l1": 5, "giou": 2}, matcher, *batch)


@pytest.mark.parametrize("focal", [True, False])
def test_pairs_of_rt_detr(batch: Any, focal: bool) -> None:
    config = SimpleNamespace(
        matcher_class_cost=2.0,
        matcher_bbox_cost=5.0,
        matcher_giou_cost=2.0,
        use_focal_loss=focal,
        matcher_alpha=0.25,
        matcher_gamma=2.0,
    )
    matcher = theirs("loss.loss_rt_detr", "RTDetrHungarianMatcher")(config)
    assert_same_pairs({"focal" if focal else "softmax": 2, "l1": 5, "giou": 2}, matcher, *batch)


def test_pairs_of_lw_detr_in_groups(batch: Any) -> None:
    outputs, targets = batch
    pairs = theirs("loss.loss_lw_detr", "LwDetrHungarianMatcher")(2, 5, 2)(outputs, targets, 4)
    ours = HungarianMatcher({"focal": 2, "l1": 5, "giou": 2})(outputs, targets, 4)
    for (i, j), (k, m) in zip(ours, pairs, strict=True):
        assert torch.equal(i, k)
        assert torch.equal(j, m)


@pytest.mark.parametrize(
    ("name", "function"),
    [("mask_bce", "pair_wise_sigmoid_cross_entropy_loss"), ("mask_dice", "pair_wise_dice_loss")],
)
def test_mask_costs_of_mask2former(name: str, function: str) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(30, 500, generator=generator, dtype=torch.float64)
    masks = (torch.rand(9, 500, generator=generator) > 0.5).double()
    expected = theirs("models.mask2former.modeling_mask2former", function)(logits, masks)
    torch.testing.assert_close(pairwise_cost(name, logits, masks), expected, rtol=1e-10, atol=1e-12)


def test_the_matcher_takes_the_place_of_theirs(batch: Any) -> None:
    """A criterion holds its matcher as a module, and gets pairs of it."""
    outputs, targets = batch
    criterion = theirs("loss.loss_for_object_detection", "ImageLoss")(
        matcher=theirs("loss.loss_for_object_detection", "HungarianMatcher")(1, 5, 2),
        num_classes=19,
        eos_coef=0.1,
        losses=["labels", "boxes"],
    )
    expected = criterion(outputs, targets)
    criterion.matcher = HungarianMatcher({"softmax": 1, "l1": 5, "giou": 2})
    found = criterion(outputs, targets)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
