"""What detection.md promises of the IoU family, beyond the contract."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from losses_core import LOSSES
from losses_core.utils import compute_giou, compute_iou
from losses_det import CIoULoss, DIoULoss, EIoULoss, GIoULoss, IoULoss, SIoULoss
from losses_det._kernels import iou_loss as kernels
from losses_det.functional import giou_loss, iou_loss, siou_loss

from . import oracles
from .cases import FAMILY, boxes

NAMES = list(FAMILY)
MODES = ["iou", "linear", "log", "square"]
HALF = [torch.float16, torch.bfloat16]


def pairs(n=50, seed=0):
    inputs = boxes()(torch.Generator().manual_seed(seed), n)
    return inputs.pred, inputs.target


def value_and_grad(loss, pred, target, **keywords):
    pred = pred.clone().requires_grad_()
    value = loss(pred, target, **keywords)
    return value.detach(), torch.autograd.grad(value.sum(), pred)[0]


# ------------------------------------------------------------------------------- published formulas, value and gradient


def torchvision_value(name, box, other, alpha=None, eps=1e-7):
    """torchvision's formula of one pair, with its eps added to the denominators; ``alpha`` given: held fixed."""
    p = oracles.Pair(box, other, eps, "xyxy")
    iou = p.inter / (p.union + eps)
    if name == "GIoULoss":
        hull = p.ew * p.eh
        return 1 - (iou - (hull - p.union) / (hull + eps))
    value = 1 - iou + (p.dx**2 + p.dy**2) / (p.ew**2 + p.eh**2 + eps)
    if name == "DIoULoss":
        return value
    v = 4 / math.pi**2 * (math.atan(p.wg / p.hg) - math.atan(p.w / p.h)) ** 2
    return value + (v / (1 - iou + v + eps) if alpha is None else alpha) * v


def numeric_grad(function, box, step=1e-6):
    grad = np.zeros(4)
    for k in range(4):
        ahead, behind = box.copy(), box.copy()
        ahead[k] += step
        behind[k] -= step
        grad[k] = (function(ahead) - function(behind)) / (2 * step)
    return grad


@pytest.mark.parametrize("name", ["GIoULoss", "DIoULoss", "CIoULoss"])
def test_equals_torchvision(name):
    for seed in range(2):
        pred, target = pairs(20, seed)
        value, grad = value_and_grad(LOSSES[name](reduction="none"), pred, target)
        for row, (box, other) in enumerate(zip(pred.numpy(), target.numpy(), strict=True)):
            p = oracles.Pair(box, other, 1e-7, "xyxy")
            alpha = oracles.aspect(p) / (1 - p.iou + oracles.aspect(p) + 1e-7)
            wanted = numeric_grad(lambda b, g=other, a=alpha: torchvision_value(name, b, g, a), box)
            np.testing.assert_allclose(value[row], torchvision_value(name, box, other), rtol=1e-6, atol=1e-6)
            np.testing.assert_allclose(grad[row], wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bbox_format", ["xyxy", "cxcywh", "ltwh"])
def test_ciou_gradient_holds_alpha_fixed(mode, bbox_format):
    inputs = boxes(bbox_format)(torch.Generator().manual_seed(3), 12)
    loss = CIoULoss(reduction="none", mode=mode, bbox_format=bbox_format)
    _, grad = value_and_grad(loss, inputs.pred, inputs.target)
    for row, (box, other) in enumerate(zip(inputs.pred.numpy(), inputs.target.numpy(), strict=True)):
        alpha = oracles.alpha_of(oracles.Pair(box, other, 1e-6, bbox_format))

        def fixed(b, other=other, alpha=alpha):
            p = oracles.Pair(b, other, 1e-6, bbox_format)
            return oracles.of_iou(p, mode) + oracles.distance_term(p) + alpha * oracles.aspect(p)

        np.testing.assert_allclose(grad[row], numeric_grad(fixed, box), rtol=1e-6, atol=1e-7)


def test_overlap_is_that_of_compute_iou():
    pred, target = pairs()
    torch.testing.assert_close(1 - iou_loss(pred, target, mode="linear"), compute_iou(pred, target), rtol=0, atol=1e-15)
    torch.testing.assert_close(1 - giou_loss(pred, target), compute_giou(pred, target), rtol=0, atol=1e-14)


def test_defaults_and_modes():
    assert IoULoss().mode == "log"
    for name in NAMES[1:]:
        assert LOSSES[name]().mode == "linear"
    pred, target = pairs()
    iou = compute_iou(pred, target)
    f = {"iou": 1 - iou, "linear": 1 - iou, "log": -iou.log(), "square": 1 - iou**2}
    for name in NAMES:
        term = LOSSES[name](reduction="none", mode="linear")(pred, target) - (1 - iou)
        for mode in MODES:
            value = LOSSES[name](reduction="none", mode=mode)(pred, target)
            torch.testing.assert_close(value, f[mode] + term)


def test_formats_agree():
    pred, target = pairs()

    def centred(box):
        return torch.cat(((box[:, :2] + box[:, 2:]) / 2, box[:, 2:] - box[:, :2]), -1)

    def cornered(box):
        return torch.cat((box[:, :2], box[:, 2:] - box[:, :2]), -1)

    for name in NAMES:
        expected = LOSSES[name]()(pred, target)
        for bbox_format, change in (("xywh", centred), ("cxcywh", centred), ("ltwh", cornered)):
            loss = LOSSES[name](bbox_format=bbox_format)
            torch.testing.assert_close(loss(change(pred), change(target)), expected)


@pytest.mark.parametrize("name", NAMES)
def test_symmetric_and_differentiable_in_the_target(name):
    pred, target = pairs(4)
    loss = LOSSES[name](reduction="none")
    torch.testing.assert_close(loss(pred, target), loss(target, pred))
    target.requires_grad_()
    (grad,) = torch.autograd.grad(loss(pred, target).sum(), target)
    _, swapped = value_and_grad(loss, target.detach(), pred)
    torch.testing.assert_close(grad, swapped)
    if name != "CIoULoss":
        assert torch.autograd.gradcheck(loss, (pred.requires_grad_(), target))
        assert torch.autograd.gradgradcheck(loss, (pred, target))


# ---------------------------------------------------------------------------------------------------- behaviour


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALF], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_equal_boxes_cost_exactly_nothing(name, dtype):
    box = torch.tensor(
        [[10.0, 20.0, 50.0, 60.0], [0.0, 0.0, 4000.0, 3.0], [0.25, 0.25, 0.26, 0.26], [0.1, 0.7, 0.3, 0.9]]
    )
    for mode in MODES:
        value, grad = value_and_grad(LOSSES[name](reduction="none", mode=mode), box.to(dtype), box.to(dtype))
        assert not value.any()
        assert grad.abs().max() < 1e-4  # of about 100 beside the smallest box


@pytest.mark.parametrize("direction", [(1.0, 0.0), (0.0, -1.0), (1.0, 1.0), (-3.0, 1.0)])
def test_siou_grows_as_boxes_move_apart(direction):
    box = torch.tensor([0.0, 0.0, 4.0, 3.0], dtype=torch.float64)
    steps = torch.linspace(0, 40, 200, dtype=torch.float64).unsqueeze(1)
    moved = box + steps * torch.tensor(direction * 2, dtype=torch.float64)
    value = siou_loss(moved, box.expand_as(moved))
    assert (value.diff() > 0).all()
    assert value[0] == 0
    assert value[-1] > 1.35


def test_siou_pulls_together():
    target = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    _, grad = value_and_grad(SIoULoss(), target + 10, target)
    along = grad[:, :2] + grad[:, 2:]  # of moving the whole box
    assert (along > 0).all()


@pytest.mark.parametrize("mode", MODES)
def test_eiou_equals_diou_where_sizes_agree(mode):
    pred, target = pairs()
    size = target[:, 2:] - target[:, :2]
    pred = torch.cat((pred[:, :2], pred[:, :2] + size), -1)
    value, expected = (loss(reduction="none", mode=mode)(pred, target) for loss in (EIoULoss, DIoULoss))
    torch.testing.assert_close(value, expected)
    assert (EIoULoss(reduction="none")(target, pairs()[0]) > DIoULoss(reduction="none")(target, pairs()[0])).all()


def test_disjoint_boxes_in_log():
    pred, target = torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([[5.0, 5.0, 6.0, 6.0]])
    for eps in (1e-6, 1e-3):
        value, grad = value_and_grad(IoULoss(eps=eps), pred, target)
        assert value.item() == pytest.approx(-math.log(eps))
        assert not grad.any()
    for name in NAMES[1:]:
        assert value_and_grad(LOSSES[name](), pred, target)[1].any(), name


def test_a_box_without_height_can_grow():
    pred, target = torch.tensor([[10.0, 40.0, 50.0, 40.0]]), torch.tensor([[10.0, 20.0, 50.0, 60.0]])
    for name in NAMES:
        _, grad = value_and_grad(LOSSES[name](mode="linear"), pred, target)
        assert grad[0, 1] > 0 > grad[0, 3], name


@pytest.mark.parametrize("dtype", [torch.float32, *HALF], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_every_pair_of_odd_boxes_is_finite(name, dtype):
    """Each coordinate out of four: inverted, empty, touching, nested and huge boxes against each other, every mode."""
    values = torch.tensor([0.0, 1e-3, 7.0, 4000.0])
    odd = torch.cartesian_prod(values, values, values, values)
    odd = torch.cat((odd, torch.tensor([[7.0, 7.0, 7.0001, 7.0], [-1.0, -4000.0, 3.0, 1e-4]])))
    some = odd[torch.randperm(len(odd), generator=torch.Generator().manual_seed(0))[:60]]
    pred, target = some.repeat_interleave(len(some), 0).to(dtype), some.repeat(len(some), 1).to(dtype)
    for mode in MODES:
        for bbox_format in ("xyxy", "cxcywh", "ltwh"):
            loss = LOSSES[name](reduction="none", mode=mode, bbox_format=bbox_format)
            value, grad = value_and_grad(loss, pred, target)
            assert value.isfinite().all()
            assert grad.isfinite().all()


def test_nan_stays_visible():
    pred = torch.tensor([[0.0, 0.0, 1.0, math.nan], [0.0, 0.0, 1.0, 1.0]])
    for name in NAMES:
        value, grad = value_and_grad(LOSSES[name](reduction="none"), pred, torch.ones(2, 4))
        assert value.isnan().tolist() == [True, False]
        assert grad[0].isnan().any()
        assert grad[1].isfinite().all()


COORDINATE = st.one_of(st.sampled_from([0.0, 1.0, 2.0, 4000.0]), st.floats(-50, 50, width=32))


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(NAMES),
    st.sampled_from(MODES),
    st.sampled_from(["xyxy", "xywh", "cxcywh", "ltwh"]),
    st.lists(st.tuples(*[COORDINATE] * 8), min_size=1, max_size=4),
)
@example("GIoULoss", "iou", "xyxy", [(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)])
def test_any_boxes(name, mode, bbox_format, rows):
    """Value as the oracle's; value and gradient finite, and those of the definition."""
    both = torch.tensor(rows, dtype=torch.float64)
    pred, target = both[:, :4].contiguous(), both[:, 4:].contiguous()
    loss = LOSSES[name](reduction="none", mode=mode, bbox_format=bbox_format)
    value, grad = value_and_grad(loss, pred, target)
    expected, _ = FAMILY[name](pred.numpy(), target.numpy(), mode=mode, bbox_format=bbox_format)
    np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-9)
    assert grad.isfinite().all()
    leaf = pred.clone().requires_grad_()
    (again,) = torch.autograd.grad(loss(leaf, target).sum(), leaf, create_graph=True)
    torch.testing.assert_close(again.detach(), grad, rtol=1e-9, atol=1e-9)
    if mode == "linear" and bbox_format == "xyxy" and (pred[:, 2:] > pred[:, :2]).all():
        shifted, _ = value_and_grad(loss, pred + 3, target + 3)
        torch.testing.assert_close(shifted, value, rtol=1e-6, atol=1e-6)


# ------------------------------------------------------------------------------------------------ weights and shapes


@pytest.mark.parametrize("name", NAMES)
def test_weights(name):
    pred, target = pairs(4)
    loss = LOSSES[name](reduction="none")
    plain = loss(pred, target)
    per_box = torch.tensor([0.0, 1.0, 2.0, 0.5], dtype=torch.float64)
    torch.testing.assert_close(loss(pred, target, per_box), plain * per_box)
    per_side = torch.rand(4, 4, dtype=torch.float64)
    torch.testing.assert_close(loss(pred, target, per_side), plain * per_side.mean(-1))
    same = per_box.unsqueeze(1).expand(4, 4)
    assert torch.equal(
        LOSSES[name]()(pred, target, same, avg_factor=2), LOSSES[name]()(pred, target, per_box, avg_factor=2)
    )


def test_weights_of_zero_hide_anything():
    pred, target = pairs(3)
    pred[1] = math.nan
    weight = torch.ones(3, 4)
    weight[1] = 0
    for given_weight in (weight, weight[:, 0]):
        value, grad = value_and_grad(GIoULoss(), pred, target, weight=given_weight)
        assert value.isfinite()
        assert grad.isfinite().all()
        assert not grad[1].any()


def test_any_leading_dims():
    pred, target = pairs(6)
    for shape in ((6, 4), (2, 3, 4), (1, 6, 1, 4)):
        value = CIoULoss(reduction="none")(pred.reshape(shape), target.reshape(shape))
        assert value.shape == shape[:-1]
        torch.testing.assert_close(value.flatten(), CIoULoss(reduction="none")(pred, target))
    single = CIoULoss()(pred[0], target[0], weight=torch.full((4,), 2.0))
    torch.testing.assert_close(single, 2 * CIoULoss()(pred[:1], target[:1]))


def test_weight_of_one_box_is_not_taken_for_one_of_coordinates():
    pred, target = pairs(4)
    weight = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    plain = DIoULoss(reduction="none")(pred, target)
    torch.testing.assert_close(DIoULoss(reduction="none")(pred, target, weight), plain * weight)


@pytest.mark.parametrize("name", NAMES)
def test_no_boxes(name):
    pred = torch.zeros(0, 4, requires_grad=True)
    for weight in (None, torch.zeros(0), torch.zeros(0, 4)):
        value = LOSSES[name]()(pred, torch.zeros(0, 4), weight)
        (grad,) = torch.autograd.grad(value, pred)
        assert value == 0
        assert grad.shape == (0, 4)


def test_integer_targets_and_mixed_precision():
    pred = torch.tensor([[0.0, 0.0, 2.0, 2.0]], dtype=torch.float16, requires_grad=True)
    value = GIoULoss()(pred, torch.tensor([[1, 0, 3, 2]]))
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(2 / 3)
    assert torch.autograd.grad(value, pred)[0].dtype == torch.float16


# ------------------------------------------------------------------------------------------------------- the engine


def saved(loss, pred, target):
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        loss(pred, target)
    return sum(t.numel() for t in {t.data_ptr(): t for t in kept}.values()) / pred.numel()


def test_saved_for_backward():
    pred, target = torch.rand(20000, 4, requires_grad=True), torch.rand(20000, 4)
    assert saved(SIoULoss(), pred, target) <= 2.01
    assert saved(SIoULoss(), pred.detach(), target) == 0


@pytest.mark.parametrize("name", NAMES)
def test_per_sample_gradients(name):
    pred, target = pairs(5)
    loss = LOSSES[name]()
    _, expected = value_and_grad(LOSSES[name](reduction="sum"), pred, target)
    per_sample = torch.func.vmap(torch.func.grad(loss))(pred, target)
    torch.testing.assert_close(per_sample, expected)
    jacobian = torch.func.jacrev(LOSSES[name](reduction="none"))(pred, target)
    torch.testing.assert_close(jacobian.sum(0), expected)
    over_targets = torch.func.vmap(loss, in_dims=(None, 0))(pred, torch.stack((target, pred)))
    torch.testing.assert_close(over_targets, torch.stack((loss(pred, target), loss(pred, pred))))


def test_no_gradient_is_computed_where_none_is_asked_for(monkeypatch):
    def forbidden(*args):
        raise AssertionError("gradient computed")

    monkeypatch.setattr(kernels, "corner_grads", forbidden)
    pred, target = pairs()
    GIoULoss()(pred, target)
    with torch.no_grad():
        GIoULoss()(pred.requires_grad_(), target)
