"""What a detection head needs: the call, empty batches, options that have no meaning here, texts of errors."""

from __future__ import annotations

import inspect

import pytest
import torch

import losses_det
from losses_core import LOSSES, ConfigError, InputError, build_loss
from losses_det import functional

from .cases import CASES, FAMILY

NAMES = [name for name in LOSSES if LOSSES.describe(name).distribution == "losses-det"]
FIRST = list({case.loss: case for case in CASES}.values())


def test_every_loss_is_exported():
    assert set(NAMES) == set(losses_det.__all__) - {"__version__", "functional"}
    assert all(getattr(losses_det, name) is LOSSES[name] for name in NAMES)
    assert set(functional.__all__) == {
        name for name, value in vars(functional).items() if inspect.isfunction(value) and not name.startswith("_")
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("option", [{"class_weight": [1.0, 2.0]}, {"ignore_index": 255}])
def test_class_weights_and_ignored_labels_are_refused(name, option):
    with pytest.raises(TypeError, match=f"{LOSSES[name].__name__} has no parameter '{next(iter(option))}'"):
        LOSSES[name](**option)
    with pytest.raises(TypeError, match="unknown keyword"):
        LOSSES[name]()(torch.zeros(1, 4), torch.zeros(1, 4), **option)


@pytest.mark.parametrize("case", FIRST, ids=str)
def test_the_call_of_a_head(case):
    """weight is third, avg_factor fourth: an int, a float or a 0-d tensor; reduction_override fifth."""
    inputs = case.inputs(4)
    loss = case.build()
    weight = torch.tensor([1.0, 0.0, 2.0, 1.0], dtype=torch.float64)
    plain = loss(inputs.pred, inputs.target, None, None, "none", **inputs.call)
    wanted = (plain * weight.reshape(-1, *(1 for _ in plain.shape[1:]))).sum() / 3
    for three in (3, 3.0, torch.tensor(3), torch.tensor(3.0), torch.tensor(3.0, dtype=torch.float64)):
        torch.testing.assert_close(loss(inputs.pred, inputs.target, weight, three, **inputs.call), wanted)
    for nothing in (0, 0.0, torch.tensor(0)):
        torch.testing.assert_close(loss(inputs.pred, inputs.target, weight, nothing, **inputs.call), wanted * 3)


def test_a_batch_without_objects():
    """Scores of background only, no boxes, no distances: every term is finite, and the whole is connected."""
    config = {
        "cls": {"type": "QualityFocalLoss"},
        "box": {"type": "CIoULoss", "loss_weight": 2.0},
        "dfl": {"type": "DistributionFocalLoss", "loss_weight": 0.25},
        "l1": {"type": "L1Loss"},
    }
    criterion = build_loss(config)
    logits = torch.randn(100, 5, requires_grad=True)
    box, bins = torch.zeros(0, 4, requires_grad=True), torch.zeros(0, 68, requires_grad=True)
    pred = {"cls": logits, "box": box, "dfl": bins, "l1": box}
    target = {
        "cls": (torch.full((100,), 5), torch.zeros(100)),
        "box": torch.zeros(0, 4),
        "dfl": torch.zeros(0, 4),
        "l1": torch.zeros(0, 4),
    }
    weight = {"box": torch.zeros(0), "dfl": torch.zeros(0), "l1": torch.zeros(0, 4)}
    for positives in (0, 0.0, torch.tensor(0)):
        terms = criterion.terms(pred, target, weight=weight, avg_factor=positives)
        assert [terms[name].item() for name in ("box", "dfl", "l1")] == [0, 0, 0]
        gradients = torch.autograd.grad(terms.total, (logits, box, bins))
        assert all(gradient.isfinite().all() for gradient in gradients)
        assert gradients[0].any()


@pytest.mark.parametrize("name", FAMILY)
def test_texts_of_box_errors(name):
    loss = LOSSES[name]()
    with pytest.raises(InputError, match=rf"{name}: expected pred with boxes of shape \(…, 4\); got \(3, 5\)\."):
        loss(torch.zeros(3, 5), torch.zeros(3, 5))
    with pytest.raises(InputError, match=r"expected pred with boxes"):
        loss(torch.tensor(0.0), torch.tensor(0.0))
    with pytest.raises(InputError, match=r"of the shape of pred \(3, 4\); got \(2, 4\)\. Boxes are compared"):
        loss(torch.zeros(3, 4), torch.zeros(2, 4))
    with pytest.raises(InputError, match="expected target as a tensor; got list"):
        loss(torch.zeros(1, 4), [[0.0] * 4])
    with pytest.raises(InputError, match=r"weight of the loss's shape \(3,\).*got \(2,\)"):
        loss(torch.zeros(3, 4), torch.zeros(3, 4), torch.zeros(2))
    with pytest.raises(InputError, match=r"floating pred; got torch\.int64"):
        loss(torch.zeros(3, 4).long(), torch.zeros(3, 4))
    with pytest.raises(ConfigError, match=f"{name}: mode: expected one of 'iou', 'linear', 'log', 'square'; got 'lin'"):
        LOSSES[name](mode="lin")
    with pytest.raises(ConfigError, match=r"bbox_format: expected one of 'xyxy'.*Did you mean 'xyxy'"):
        LOSSES[name](bbox_format="xyyx")
    for eps in (0, -1, float("nan")):
        with pytest.raises(ConfigError, match="eps: expected a number > 0"):
            LOSSES[name](eps=eps)


def test_texts_of_the_pure_functions():
    box = torch.zeros(1, 4)
    with pytest.raises(InputError, match=r"giou_loss: mode: expected one of .*; got 'ln'"):
        functional.giou_loss(box, box, mode="ln")
    with pytest.raises(InputError, match=r"iou_loss: bbox_format: expected one of .*; got 'yxyx'"):
        functional.iou_loss(box, box, bbox_format="yxyx")
    with pytest.raises(ConfigError, match=r"theta: expected a number >= 1; got 0\.5"):
        LOSSES["SIoULoss"](theta=0.5)


def test_half_precision_in_the_pure_functions():
    box, other = torch.tensor([[0.0, 0.0, 3000.0, 3000.0]]).half(), torch.tensor([[0.0, 0.0, 1500.0, 3000.0]])
    value = functional.iou_loss(box, other, mode="linear")
    assert value.dtype == torch.float32
    assert value.item() == 0.5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert functional.ciou_loss(box, other).dtype == torch.float32
