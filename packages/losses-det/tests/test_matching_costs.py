"""The cost of every prediction with every target: `pairwise=True` of the box losses, and `pairwise_cost`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from losses_core import InputError
from losses_core.kernels import explain
from losses_core.utils import sigmoid_focal_loss
from losses_det import GIoULoss, L1Loss
from losses_det import functional as det
from losses_det.matching import pairwise_cost

from . import oracles

IOU = ["iou", "giou", "diou", "ciou", "eiou", "siou"]
HALF = [torch.float16, torch.bfloat16]


def function(name):
    return getattr(det, f"{name}_loss")


def boxes(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    centre, size = (torch.rand(*shape, 2, generator=generator, dtype=dtype) for _ in range(2))
    return torch.cat((centre, 0.1 + 0.5 * size), -1)


def inputs(name, lead, queries, targets, shape=(5,), dtype=torch.float64, seed=0):
    """Predictions and targets of a cost."""
    generator = torch.Generator().manual_seed(seed)
    if name in ("focal", "softmax"):
        pred = 3 * torch.randn(*lead, queries, 7, generator=generator, dtype=dtype)
        return pred, torch.randint(7, (*lead, targets), generator=generator)
    if name.startswith("mask"):
        pred = 3 * torch.randn(*lead, queries, *shape, generator=generator, dtype=dtype)
        return pred, torch.rand(*lead, targets, *shape, generator=generator) > 0.5
    return boxes(*lead, queries, seed=seed, dtype=dtype), boxes(*lead, targets, seed=seed + 1, dtype=dtype)


# ------------------------------------------------------------------------------------------- pairwise=True of a loss


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)], ids=str)
@pytest.mark.parametrize("name", [*IOU, "l1"])
def test_pairs_have_the_value_and_gradient_of_the_loss(name, lead):
    options = {} if name == "l1" else {"bbox_format": "cxcywh"}
    pred, target = inputs(name, lead, 4, 3)
    pred.requires_grad_()
    value = function(name)(pred, target, pairwise=True, **options)
    rows = [part.expand(*lead, 4, 3, 4) for part in (pred.unsqueeze(-2), target.unsqueeze(-3))]
    expected = function(name)(*rows, **options)
    expected = expected.sum(-1) if name == "l1" else expected
    assert value.shape == (*lead, 4, 3)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-14)
    seed = torch.rand_like(value)
    grad, wanted = (torch.autograd.grad((v * seed).sum(), pred)[0] for v in (value, expected))
    torch.testing.assert_close(grad, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", IOU)
def test_pairs_take_the_options_of_the_loss(name):
    pred, target = inputs(name, (2,), 4, 3)
    options = {"mode": "linear", "power": 2.0, "inner_ratio": 0.8, "focal_gamma": 0.5, "bbox_format": "ltwh"}
    value = function(name)(pred, target, pairwise=True, **options)
    for q in range(4):
        for m in range(3):
            torch.testing.assert_close(value[:, q, m], function(name)(pred[:, q], target[:, m], **options))


@pytest.mark.parametrize("name", [*IOU, "l1"])
def test_pairs_are_computed_by_the_definition_and_rows_by_the_kernel(name):
    pred, target = (part.requires_grad_(False) for part in inputs(name, (), 300, 300))
    assert explain(function(name), pred, target, pairwise=True).endswith(
        "definition, as no kernel supports these inputs"
    )
    assert "_kernels" in explain(function(name), pred, target)


@pytest.mark.parametrize("name", [*IOU, "l1"])
def test_pairs_of_nothing_and_of_integers(name):
    pred = boxes(5, dtype=torch.float32)
    assert function(name)(pred, boxes(0, dtype=torch.float32), pairwise=True).shape == (5, 0)
    assert function(name)(pred[:0], boxes(2, dtype=torch.float32), pairwise=True).shape == (0, 2)
    corners = torch.tensor([[0, 0, 2, 2], [1, 1, 4, 3]])
    value = function(name)(corners.float(), corners, pairwise=True)
    torch.testing.assert_close(value, function(name)(corners.float(), corners.float(), pairwise=True))


@pytest.mark.parametrize("name", [*IOU, "l1"])
def test_pairs_compile_to_one_graph(name):
    pred, target = inputs(name, (2,), 4, 3, dtype=torch.float32)
    compiled = torch.compile(function(name), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(
        compiled(pred, target, pairwise=True), function(name)(pred, target, pairwise=True), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize(
    ("pred", "target", "text"),
    [
        (
            (2, 5, 4),
            (3, 4),
            r"expected pred \(…, Q, D\) and target \(…, M, D\) with pairwise=True.*\(2, 5, 4\) and \(3, 4\)",
        ),
        ((2, 5, 4), (3, 6, 4), "equal in all axes but Q and M"),
        ((4,), (4,), "equal in all axes but Q and M"),
    ],
)
@pytest.mark.parametrize("name", ["giou", "l1"])
def test_shapes_of_pairs(name, pred, target, text):
    with pytest.raises(InputError, match=f"{name}_loss: {text}" if text.startswith("expected") else text):
        function(name)(torch.rand(pred), torch.rand(target), pairwise=True)


def test_boxes_have_four_numbers():
    with pytest.raises(InputError, match=r"giou_loss: expected target with boxes of shape \(…, 4\); got \(2, 3\)"):
        det.giou_loss(torch.rand(5, 4), torch.rand(2, 3), pairwise=True)
    with pytest.raises(InputError, match="compare every pair with pairwise=True"):
        det.giou_loss(torch.rand(5, 4), torch.rand(2, 4))


@pytest.mark.parametrize("cls", [GIoULoss, L1Loss])
def test_a_class_has_no_pairs(cls):
    with pytest.raises(TypeError, match="unknown keyword 'pairwise'"):
        cls()(torch.rand(5, 4), torch.rand(5, 4), pairwise=True)


# ------------------------------------------------------------------------------------------------------ pairwise_cost

COSTS = [
    ("focal", {}),
    ("focal", {"alpha": 0.6, "gamma": 1.5}),
    ("focal", {"gamma": 0.0}),
    ("softmax", {}),
    ("l1", {}),
    *((name, {}) for name in IOU),
    *((name, {"bbox_format": "cxcywh"}) for name in IOU),
    ("iou", {"mode": "linear", "bbox_format": "ltwh"}),
    ("siou", {"theta": 2.0, "bbox_format": "cxcywh"}),
    ("mask_bce", {}),
    ("mask_dice", {}),
    ("mask_dice", {"smooth": 0.5}),
]


@pytest.mark.parametrize("lead", [(), (2,), (2, 2)], ids=str)
@pytest.mark.parametrize(("name", "options"), COSTS, ids=str)
def test_costs(name, options, lead):
    pred, target = inputs(name, lead, 4, 3)
    expected = oracles.pairwise(name, pred.numpy(), target.numpy(), **options)
    np.testing.assert_allclose(pairwise_cost(name, pred, target, **options), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [(5,), (1,), (3, 4), (2, 3, 2)], ids=str)
@pytest.mark.parametrize("lead", [(), (2,)], ids=str)
@pytest.mark.parametrize("name", ["mask_bce", "mask_dice"])
def test_masks_of_any_shape(name, lead, shape):
    pred, target = inputs(name, lead, 4, 3, shape)
    flat = [part.flatten(len(lead) + 1).numpy() for part in (pred, target)]
    np.testing.assert_allclose(pairwise_cost(name, pred, target), oracles.pairwise(name, *flat), rtol=1e-9)
    for kind in (torch.uint8, torch.float32, torch.float64):
        torch.testing.assert_close(pairwise_cost(name, pred, target.to(kind)), pairwise_cost(name, pred, target))
    as_many = target[..., :1, :].expand_as(pred) if len(shape) == 1 else target.narrow(len(lead), 0, 1).expand_as(pred)
    value = pairwise_cost(name, pred, as_many, spatial_dims=len(shape))
    assert value.shape == (*lead, 4, 4)
    if lead or len(shape) > 1:
        with pytest.raises(InputError, match=r"give spatial_dims, 1 if the last axis alone is a mask"):
            pairwise_cost(name, pred, as_many)


def test_soft_masks_empty_masks_and_no_points():
    pred, target = torch.randn(3, 6, dtype=torch.float64), torch.rand(2, 6, dtype=torch.float64)
    for name in ("mask_bce", "mask_dice"):
        np.testing.assert_allclose(
            pairwise_cost(name, pred, target), oracles.pairwise(name, pred.numpy(), target.numpy())
        )
        assert not pairwise_cost(name, torch.zeros(3, 0), torch.zeros(2, 0)).any()
    empty = torch.full((1, 6), -1e4)
    assert pairwise_cost("mask_dice", empty, torch.zeros(1, 6), smooth=0.0).item() == 0


def test_nothing_of_the_size_of_pairs_and_points():
    """Every tensor stays below Q·M·P."""
    sizes = []

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            made = func(*args, **(kwargs or {}))
            sizes.extend(part.untyped_storage().nbytes() for part in torch.utils._pytree.tree_leaves(made))
            return made

    pred, target = torch.zeros(2, 30, 1000, device="meta"), torch.zeros(2, 20, 1000, device="meta")
    with Sizes():
        for name in ("mask_bce", "mask_dice"):
            pairwise_cost(name, pred, target)
    assert max(sizes) == 4 * pred.numel()


@pytest.mark.parametrize("dtype", [torch.float32, *HALF], ids=str)
@pytest.mark.parametrize("name", [name for name, options in COSTS if not options])
def test_large_numbers_and_half_precision(name, dtype):
    for scale in (1.0, 2e4):
        pred, target = inputs(name, (2,), 6, 5, dtype=torch.float32)
        pred = (pred * scale).clamp(-6e4, 6e4).to(dtype)
        target = target if name in ("focal", "softmax") or name.startswith("mask") else (target * scale).to(dtype)
        value = pairwise_cost(name, pred, target)
        assert value.dtype == torch.float32
        assert value.isfinite().all()
        wide = [part.double() if part.is_floating_point() else part for part in (pred, target)]
        torch.testing.assert_close(value.double(), pairwise_cost(name, *wide), rtol=1e-5, atol=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(pairwise_cost(name, pred, target), value, rtol=0, atol=0)


@settings(max_examples=60, deadline=None)
@given(st.floats(-6e4, 6e4, width=32), st.floats(0, 5), st.floats(0, 1))
def test_focal_of_any_logit(x, gamma, alpha):
    pred = torch.tensor([[x]], dtype=torch.float64)
    value = pairwise_cost("focal", pred, torch.tensor([0]), alpha=alpha, gamma=gamma)
    expected = oracles.pairwise("focal", pred.numpy(), np.array([0]), alpha=alpha, gamma=gamma)
    np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-300)


def test_focal_is_the_difference_of_two_losses():
    pred, target = inputs("focal", (), 6, 4)
    picked = pred[:, target]
    expected = sigmoid_focal_loss(picked, torch.ones_like(picked)) - sigmoid_focal_loss(
        picked, torch.zeros_like(picked)
    )
    torch.testing.assert_close(pairwise_cost("focal", pred, target), expected)


def test_mask_bce_is_the_loss_of_torch():
    pred, target = inputs("mask_bce", (), 3, 2)
    for q in range(3):
        for m in range(2):
            expected = F.binary_cross_entropy_with_logits(pred[q], target[m].double())
            torch.testing.assert_close(pairwise_cost("mask_bce", pred, target)[q, m], expected)


@pytest.mark.parametrize("name", [name for name, options in COSTS if not options])
def test_costs_are_differentiable(name):
    pred, target = inputs(name, (2,), 3, 2, dtype=torch.float64)
    if name == "l1":
        pred = pred + 2  # away from its kinks
    cost = pairwise_cost(name, pred.requires_grad_(), target)
    assert torch.autograd.grad(cost.sum(), pred)[0].isfinite().all()
    if name != "ciou":  # its alpha is a constant
        assert torch.autograd.gradcheck(lambda x: pairwise_cost(name, x, target), pred)


@pytest.mark.parametrize(
    ("name", "pred", "target", "text"),
    [
        ("giuo", (3, 4), (2, 4), r"pairwise_cost: expected one of focal.*got 'giuo'\. Did you mean 'giou'\?"),
        (
            "focal",
            (3, 4),
            torch.tensor([0, 4]),
            r"with class indices in \[0, 4\); got 4 at \[1\].*Classes count from 0",
        ),
        ("softmax", (3, 4), torch.tensor([-1, 0]), r"got -1 at \[0\]"),
        ("focal", (3, 4), (2,), "expected target with class indices"),
        ("focal", (2, 3, 4), torch.tensor([0, 1]), r"expected pred \(…, Q, C\) and target \(…, M\)"),
        ("focal", (2, 3, 4), torch.zeros(3, 2).long(), r"got \(2, 3, 4\) and \(3, 2\)"),
        ("mask_bce", (3, 4), (2, 5), r"expected pred \(…, Q, P\) or \(…, Q, H, W\).*got \(3, 4\) and \(2, 5\)"),
        ("mask_dice", (3, 4), (4,), "got \\(3, 4\\) and \\(4,\\)"),
        (
            "mask_bce",
            (3, 4),
            torch.full((2, 4), 255),
            r"expected masks with numbers in \[0, 1\]; got 255.*Give masks as bool",
        ),
        ("l1", (3, 4), (2, 5), "equal in all axes"),
        ("giou", (3, 4), None, "expected target as a tensor; got NoneType"),
        ("giou", {"boxes": torch.rand(3, 4)}, (2, 4), r"give pred\['boxes'\]"),
    ],
)
def test_wrong_inputs(name, pred, target, text):
    made = [torch.rand(part) if isinstance(part, tuple) else part for part in (pred, target)]
    with pytest.raises(InputError, match=text):
        pairwise_cost(name, *made)


def test_wrong_options():
    pred, target = torch.rand(3, 4), torch.rand(2, 4)
    with pytest.raises(
        TypeError, match=r"pairwise_cost: giou has no option 'bbox_fromat'\. Did you mean 'bbox_format'\?"
    ):
        pairwise_cost("giou", pred, target, bbox_fromat="xyxy")
    with pytest.raises(TypeError, match=r"l1 has no option 'bbox_format'\. It has none\."):
        pairwise_cost("l1", pred, target, bbox_format="xyxy")
    with pytest.raises(TypeError, match=r"focal has no option 'pairwise'\. It has alpha, gamma\."):
        pairwise_cost("focal", pred, torch.tensor([0]), pairwise=True)
    for options in ({"alpha": 2}, {"gamma": -1.0}, {"gamma": float("nan")}, {"alpha": True}):
        with pytest.raises(InputError, match=r"pairwise_cost\('focal'\): (alpha|gamma): expected a number"):
            pairwise_cost("focal", pred, torch.tensor([0]), **options)
    with pytest.raises(InputError, match="bbox_format: expected one of"):
        pairwise_cost("giou", pred, target, bbox_format="xxyy")


@pytest.mark.parametrize("spatial_dims", [0, -1, 2])
def test_wrong_axes_of_masks(spatial_dims):
    with pytest.raises(InputError, match=r"spatial_dims: expected an integer >= 1|expected pred \(…, Q, P\)"):
        pairwise_cost("mask_bce", torch.rand(3, 4), torch.rand(2, 4), spatial_dims=spatial_dims)


def test_a_wrong_label_is_nan_where_values_are_not_looked_at():
    pred = torch.randn(3, 4)
    for name in ("focal", "softmax"):
        value = torch.func.vmap(lambda x, y, name=name: pairwise_cost(name, x, y))(
            pred[None], torch.tensor([[0, 4, -1]])
        )
        assert value.isnan().any((0, 1)).tolist() == [False, True, True]
