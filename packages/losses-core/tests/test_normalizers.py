"""The normalizer before the forward: of a loss, of a combination, over micro-batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from losses_core import BaseLoss, CombinedLoss, InputError, Unreduced, debug

from .small_losses import GapLoss, SquareLoss


class ClassesLoss(BaseLoss):
    """-log p of the label, without a definition; class 0 counts twice, and -1 is ignored."""

    class_axis = 1

    def _forward(self, pred: Tensor, target: Tensor) -> Unreduced:
        ignored = target == -1
        value = -pred.log_softmax(1).gather(1, target.clamp(min=0).unsqueeze(1)).squeeze(1)
        share = 1.0 + (target == 0).to(pred.dtype)
        return Unreduced((value * share).masked_fill(ignored, 0), share.masked_fill(ignored, 0))


class WholeLoss(BaseLoss):
    coupled = "batch"

    def _forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return pred.std() - target.std()


class RowsLoss(BaseLoss):
    """A value of each element of pred (N,C), for labels (N,)."""

    def _forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return pred


def test_of_elements_it_is_their_number() -> None:
    found = GapLoss().normalizer(torch.zeros(4, 3, dtype=torch.bfloat16))
    assert found.dtype == torch.int64 and found.item() == 12


def test_a_loss_of_ones_own_gives_its_shares() -> None:
    assert ClassesLoss().normalizer(torch.tensor([[0, 1], [2, -1]])).item() == 4
    assert ClassesLoss().normalizer(torch.full((3,), -1)).item() == 0


def test_accumulation_is_the_whole_batch() -> None:
    torch.manual_seed(0)
    loss, pred = ClassesLoss(), torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0, 1, 2, -1, -1, -1, 3, 0, -1])
    total = sum(loss.normalizer(part) for part in target.split(3))
    parts = [loss(x, y, avg_factor=total) for x, y in zip(pred.split(3), target.split(3), strict=True)]
    (accumulated,) = torch.autograd.grad(torch.stack(parts).sum(), pred)
    (whole,) = torch.autograd.grad(loss(pred, target), pred)
    torch.testing.assert_close(accumulated, whole, rtol=1e-12, atol=1e-12)


def test_it_does_not_look_at_values_on_a_device() -> None:
    found = ClassesLoss().normalizer(torch.zeros(3, 5, dtype=torch.int64, device="meta"))
    assert found.device.type == "meta"  # whose values cannot be read
    with debug():
        assert GapLoss().normalizer(torch.zeros(3, device="meta")).device.type == "meta"


def test_an_avg_factor_of_the_constructor_does_not_enter() -> None:
    assert GapLoss(avg_factor=7).normalizer(torch.zeros(2, 2)).item() == 4


def test_labels_may_come_with_the_number_of_classes() -> None:
    labels = torch.zeros(3, dtype=torch.int64)
    assert RowsLoss().normalizer(labels).item() == 3
    assert RowsLoss().normalizer(labels, num_classes=5).item() == 15


def test_a_loss_of_a_whole_batch_has_none() -> None:
    with pytest.raises(InputError, match="WholeLoss: expected a loss that is a sum over rows"):
        WholeLoss().normalizer(torch.zeros(3))


def test_unknown_and_wrong_arguments() -> None:
    with pytest.raises(TypeError, match="Did you mean 'mask'"):
        SquareLoss().normalizer(torch.zeros(3), mas=torch.ones(3))
    with pytest.raises(InputError, match="GapLoss: expected target as a tensor; got str"):
        GapLoss().normalizer("labels")
    with pytest.raises(ValueError, match="num_classes"):
        GapLoss().normalizer(torch.zeros(3), num_classes=0)


@pytest.fixture
def criterion() -> CombinedLoss:
    return CombinedLoss({"ce": ClassesLoss(), "aux": CombinedLoss({"gap": GapLoss(), "square": SquareLoss()})})


def test_a_combination_gives_one_per_label(criterion: CombinedLoss) -> None:
    torch.manual_seed(0)
    labels, boxes = torch.tensor([0, 1, -1, 2]), torch.randn(4, 3, dtype=torch.float64)
    pred = {"ce": torch.randn(4, 3, dtype=torch.float64, requires_grad=True), "aux": boxes + 1}
    target = {"ce": labels, "aux": boxes}
    halves = [{"ce": labels[cut], "aux": boxes[cut]} for cut in (slice(0, 3), slice(3, 4))]
    total: Any = sum(criterion.normalizer(half) for half in halves)
    assert total == {"ce": 4, "aux": {"gap": 12, "square": 12}}
    parts = [
        criterion({name: x[cut] for name, x in pred.items()}, half, avg_factor=total)
        for half, cut in zip(halves, (slice(0, 3), slice(3, 4)), strict=True)
    ]
    torch.testing.assert_close(torch.stack(parts).sum(), criterion(pred, target), rtol=1e-12, atol=1e-12)


def test_a_combination_routes_keywords_and_number_of_classes() -> None:
    criterion = CombinedLoss({"rows": RowsLoss(), "ce": ClassesLoss(), "square": SquareLoss()})
    labels = torch.tensor([0, 1])
    target = {"rows": labels, "ce": labels, "square": torch.zeros(2, 2)}
    found = criterion.normalizer(target, num_classes=5, mask=torch.ones(2, 2))
    assert found == {"rows": 10, "ce": 3, "square": 4}
    assert criterion.normalizer(target, num_classes={"rows": 6}) == found | {"rows": 12}
    with pytest.raises(InputError, match="num_classes has an entry for 'row'"):
        criterion.normalizer(target, num_classes={"row": 6, "rows": 6})
    with pytest.raises(InputError, match="term 'square': expected a target"):
        criterion.normalizer({"ce": labels, "rows": labels}, num_classes=5)


def test_inputs_find_the_target() -> None:
    inputs = {"gap": {"pred": "student", "target": "teacher.boxes"}}
    criterion = CombinedLoss({"gap": GapLoss()}, inputs=inputs)
    assert criterion.normalizer({"teacher": {"boxes": torch.zeros(2, 4)}}) == {"gap": 8}


def test_inputs_of_an_inner_combination_find_the_target() -> None:
    inputs = {"gap": {"pred": "student", "target": "boxes"}}
    criterion = CombinedLoss({"labels": ClassesLoss(), "inner": CombinedLoss({"gap": GapLoss()}, inputs=inputs)})
    data = {"labels": torch.tensor([0, 1]), "boxes": torch.zeros(2, 4)}  # a key that is a label: taken apart
    assert criterion.normalizer(data) == {"labels": 3, "inner": {"gap": 8}}


def test_a_member_without_one_is_named() -> None:
    with pytest.raises(InputError, match=r"term 'whole': WholeLoss"):
        CombinedLoss({"gap": GapLoss(), "whole": WholeLoss()}).normalizer(torch.zeros(3))


def test_those_of_other_losses_do_not_add_up(criterion: CombinedLoss) -> None:
    one = CombinedLoss({"gap": GapLoss()}).normalizer(torch.zeros(2))
    other = CombinedLoss({"square": SquareLoss()}).normalizer(torch.zeros(2))
    with pytest.raises(TypeError):
        one + other
