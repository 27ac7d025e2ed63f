"""The Hungarian matcher, its solver, and what it returns."""

from __future__ import annotations

import copy
import importlib.util
import inspect
import itertools
import pickle
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch.utils._python_dispatch import TorchDispatchMode

from losses_core import ConfigError, InputError, build_loss, compute_iou
from losses_det import GIoULoss, L1Loss, VariFocalLoss
from losses_det.matching import HungarianMatcher, Matches, pairwise_cost
from losses_det.matching import _solver as solvers
from losses_det.matching import costs as cost_functions
from losses_det.matching import matcher as matchers

RT_DETR = {"focal": 2, "l1": 5, "giou": 2}
DETR = {"softmax": 1, "l1": 5, "giou": 2}
MASK2FORMER = {"softmax": 2, "mask_bce": 5, "mask_dice": 5}
C = 6


def data(lead=(3,), queries=9, sizes=(4, 0, 12), points=(5,), seed=0, dtype=torch.float32):
    """Predictions of all kinds, and targets."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.rand(*shape, generator=generator).to(dtype)

    pred = {
        "logits": 4 * random(*lead, queries, C) - 2,
        "boxes": 0.1 + 0.5 * random(*lead, queries, 4),
        "masks": 8 * random(*lead, queries, *points) - 4,
    }
    target = [
        {
            "labels": torch.randint(C, (n,), generator=generator),
            "boxes": 0.1 + 0.5 * random(n, 4),
            "masks": random(n, *points) > 0.5,
        }
        for n in sizes
    ]
    return pred, target


def assert_equals_scipy(matches, cost, sizes):
    """Hold the matches of one layer against scipy on each image."""
    assert len(matches) == len(sizes)
    for image, size in enumerate(sizes):
        rows, columns = linear_sum_assignment(cost[image, :, :size].numpy())
        pred_index, target_index = matches[image]
        assert pred_index.tolist() == rows.tolist()
        assert target_index.tolist() == columns.tolist()
        assert pred_index.dtype == target_index.dtype == torch.int64


# ------------------------------------------------------------------------------------------------------------- pairs


@pytest.mark.parametrize("costs", [RT_DETR, DETR, MASK2FORMER, RT_DETR | MASK2FORMER], ids=str)
@pytest.mark.parametrize("layers", [None, 1, 3])
def test_pairs_equal_scipy_on_each_image(costs, layers):
    """Images with few targets, none, and more than there are predictions."""
    pred, target = data((3,) if layers is None else (layers, 3))
    matcher = HungarianMatcher(costs)
    matches, cost = matcher(pred, target), matcher.cost(pred, target)
    assert cost.shape == (*pred["logits"].shape[:-1], 12)
    for layer in range(layers or 1):
        of_layer = matches if layers is None else matches[layer]
        assert_equals_scipy(of_layer, cost if layers is None else cost[layer], (4, 0, 12))
    if layers is not None:
        assert len(matches) == layers
        alone = matcher({key: part[-1] for key, part in pred.items()}, target)
        assert [p.tolist() for p in itertools.chain(*alone)] == [p.tolist() for p in itertools.chain(*matches[-1])]


def test_the_cost_is_the_weighted_sum_of_the_pairwise_costs():
    pred, target = data(points=(2, 3))
    options = {"focal": {"weight": 2, "gamma": 1.5}, "ciou": {"weight": 0.5, "eps": 1e-5}, "mask_bce": 3, "l1": 0}
    cost = HungarianMatcher(options, bbox_format="ltwh").cost(pred, target)
    for image, entry in enumerate(target):
        size = len(entry["labels"])
        expected = (
            2 * pairwise_cost("focal", pred["logits"][image], entry["labels"], gamma=1.5)
            + 0.5 * pairwise_cost("ciou", pred["boxes"][image], entry["boxes"], bbox_format="ltwh", eps=1e-5)
            + 3 * pairwise_cost("mask_bce", pred["masks"][image], entry["masks"])
        )
        torch.testing.assert_close(cost[image, :, :size], expected)
        assert not cost[image, :, size:].any()


def test_a_cost_of_weight_0_needs_no_inputs():
    pred, target = data()
    matches = HungarianMatcher({"l1": 1, "mask_bce": 0})(
        {"boxes": pred["boxes"]}, [{"boxes": t["boxes"]} for t in target]
    )
    assert len(matches) == 3


def test_other_names_and_empty_lists():
    pred, target = data()
    expected = HungarianMatcher(RT_DETR | MASK2FORMER)(pred, target)
    renamed = {f"pred_{key}": part for key, part in pred.items()}
    targets = [{"class_labels": t["labels"], "boxes": t["boxes"], "masks": t["masks"]} for t in target]
    targets[1] = {"class_labels": torch.tensor([]), "boxes": torch.tensor([]), "masks": torch.tensor([])}
    found = HungarianMatcher(RT_DETR | MASK2FORMER)(renamed, targets)
    assert torch.equal(found.query, expected.query)
    for kind in (torch.int32, torch.uint8):
        targets = [entry | {"labels": entry["labels"].to(kind)} for entry in target]
        assert torch.equal(HungarianMatcher(RT_DETR | MASK2FORMER)(pred, targets).query, expected.query)


@pytest.mark.parametrize("lead", [(0,), (2, 0), (1,), (2, 1), (2,)], ids=str)
@pytest.mark.parametrize("queries", [0, 4])
@pytest.mark.parametrize("size", [0, 3])
def test_nothing_to_match(lead, queries, size):
    pred, target = data(lead, queries, (size,) * lead[-1])
    for costs in (RT_DETR, MASK2FORMER, {"mask_dice": 1}):
        matches = HungarianMatcher(costs)(pred, target)
        assert matches.query.shape == (*lead, size if lead[-1] else 0)
        for layer in matches if len(lead) == 2 else [matches]:
            assert len(layer) == lead[-1]
            assert [len(pair[0]) for pair in layer] == [min(queries, size)] * lead[-1]
            assert all(part.shape == (lead[-1] * min(queries, size),) for part in layer.batch_index())


@pytest.mark.parametrize("points", [(7,), (3, 4)], ids=str)
@pytest.mark.parametrize("lead", [(3,), (2, 3)], ids=str)
def test_masks_alone_tell_whether_there_are_layers(lead, points):
    pred, target = data(lead, points=points)
    matcher = HungarianMatcher({"mask_bce": 1, "mask_dice": 1})
    assert matcher({"masks": pred["masks"]}, target).query.shape == (*lead, 12)
    assert_equals_scipy(
        matcher({"masks": pred["masks"][0]}, target) if len(lead) == 2 else matcher(pred, target),
        matcher.cost({"masks": pred["masks"][0] if len(lead) == 2 else pred["masks"]}, target),
        (4, 0, 12),
    )


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 12),
    st.lists(st.integers(0, 14), min_size=1, max_size=4),
    st.integers(0, 2**16),
    st.sampled_from([RT_DETR, DETR, MASK2FORMER]),
    st.sampled_from([None, 1, 2]),
)
def test_any_sizes(queries, sizes, seed, costs, layers):
    lead = (len(sizes),) if layers is None else (layers, len(sizes))
    pred, target = data(lead, queries, sizes, seed=seed)
    matcher = HungarianMatcher(costs)
    matches, cost = matcher(pred, target), matcher.cost(pred, target)
    for of_layer, table in [(matches, cost)] if layers is None else zip(matches, cost, strict=True):
        assert_equals_scipy(of_layer, table, sizes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_precision(dtype):
    pred, target = data((2, 3))
    for part in pred.values():
        part.mul_(1e4).clamp_(-6e4, 6e4)
    pred = {key: part.to(dtype) for key, part in pred.items()}
    matcher = HungarianMatcher(RT_DETR | MASK2FORMER)
    cost = matcher.cost(pred, target)
    assert cost.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert cost.isfinite().all()
    wide = matcher.cost({key: part.double() for key, part in pred.items()}, target)
    torch.testing.assert_close(cost.double(), wide, rtol=1e-4, atol=1e-3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(matcher.cost(pred, target), cost, rtol=0, atol=0)


def test_no_gradient():
    pred, target = data()
    pred = {key: part.requires_grad_() for key, part in pred.items()}
    matcher = HungarianMatcher(RT_DETR | MASK2FORMER)
    assert not matcher.cost(pred, target).requires_grad
    before = {key: part.detach().clone() for key, part in pred.items()}
    matcher(pred, target)
    assert torch.is_grad_enabled()
    assert all(torch.equal(before[key], part) for key, part in pred.items())


# ------------------------------------------------------------------------------------------------------------ groups


@pytest.mark.parametrize("groups", [1, 3])
def test_groups_are_matched_by_themselves(groups):
    pred, target = data((2, 3))
    matcher = HungarianMatcher(RT_DETR)
    matches = matcher(pred, target, groups=groups)
    block = 9 // groups
    assert matches.query.shape == (2, 3, 12 * groups)
    parts = [
        matcher({key: part[:, :, g * block : (g + 1) * block] for key, part in pred.items()}, target)
        for g in range(groups)
    ]
    for layer, image in itertools.product(range(2), range(3)):
        pairs = [(i + g * block, j) for g, part in enumerate(parts) for i, j in zip(*part[layer][image], strict=True)]
        pred_index, target_index = matches[layer][image]
        assert list(zip(pred_index, target_index, strict=True)) == pairs
        assert (pred_index.diff() > 0).all()
        for g, part in enumerate(parts):
            expected = torch.where(part.valid, part.query + g * block, -1)
            assert torch.equal(matches.query[:, :, 12 * g : 12 * (g + 1)], expected)


@pytest.mark.parametrize("groups", [0, 2, -3, 3.0])
def test_groups_divide_the_queries(groups):
    with pytest.raises(
        InputError, match=f"HungarianMatcher: groups: expected a divisor of the 9 queries; got {groups}"
    ):
        HungarianMatcher(RT_DETR)(*data(), groups=groups)


# ----------------------------------------------------------------------------------------------------------- Matches


def test_matches():
    pred, target = data((2, 3))
    matches = HungarianMatcher(RT_DETR)(pred, target)
    assert matches.counts == [[4, 0, 9], [4, 0, 9]]
    assert repr(matches[0]) == "Matches(query of shape (3, 12), counts=[4, 0, 9])"
    for layer in matches:
        assert isinstance(layer, Matches)
        images, pred_index, target_index = layer.batch_index()
        assert torch.equal(images, torch.cat([torch.full_like(i, b) for b, (i, _) in enumerate(layer)]))
        assert torch.equal(pred_index, torch.cat([i for i, _ in layer]))
        assert torch.equal(target_index, torch.cat([j for _, j in layer]))
        query = torch.full((3, 12), -1)
        query[images, target_index] = pred_index
        assert torch.equal(layer.query, query)
        assert torch.equal(layer.valid, query >= 0)
    assert torch.equal(matches[-1].query, matches[1].query)
    with pytest.raises(IndexError):
        matches[2]
    with pytest.raises(IndexError):
        matches[0][-4]
    with pytest.raises(TypeError):
        matches[0:1]
    with pytest.raises(InputError, match=r"Matches: expected the matches of one layer: matches\[layer\]\.batch_index"):
        matches.batch_index()


def test_static_shapes_and_selected_rows_give_one_loss():
    pred, target = data()
    matches = HungarianMatcher(RT_DETR)(pred, target)
    loss = build_loss({"type": "GIoULoss", "bbox_format": "cxcywh"})
    images, pred_index, target_index = matches.batch_index()
    boxes = torch.cat([t["boxes"][j] for t, (_, j) in zip(target, matches, strict=True)])
    expected = loss(pred["boxes"][images, pred_index], boxes, avg_factor=16)
    padded = torch.nn.utils.rnn.pad_sequence([t["boxes"] for t in target], batch_first=True)
    rows = pred["boxes"].take_along_dim(matches.query.clamp(min=0).unsqueeze(-1), 1)
    value = loss(rows, padded, weight=matches.valid.float(), avg_factor=16)
    torch.testing.assert_close(value, expected)
    assert isinstance(loss, GIoULoss)
    assert torch.equal(boxes, padded[images, target_index])


# ----------------------------------------------------------------------------------------- operators and the one wait


class Accelerator(TorchDispatchMode):
    """Count operators and copies; meta tensors stand for those of a device, which have no values to look at."""

    def __init__(self, host):
        super().__init__()
        self.host, self.operators, self.copies = host, [], []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        assert func is not torch.ops.aten._local_scalar_dense.default, "waits for the device"
        assert func is not torch.ops.aten.nonzero.default, "waits for the device"
        views = [ret.alias_info is not None and not ret.alias_info.is_write for ret in func._schema.returns]
        if not any(views):
            self.operators.append(str(func))
        goal = torch.device(kwargs.get("device") or "meta")
        if func is torch.ops.aten._to_copy.default and goal != args[0].device:
            self.copies.append((args[0].device.type, goal.type))
            if goal.type == "cpu":
                return torch.rand(args[0].shape, dtype=args[0].dtype) * (0 if self.host is None else self.host)
        return func(*args, **kwargs)


def run_on_accelerator(costs, lead, groups=1, dtype=torch.float32):
    sizes = [(3, 0, 12, 5, 7, 1, 4, 2)[image % 8] for image in range(lead[-1])]
    pred, target = data(lead, sizes=sizes, points=(4, 5), dtype=dtype)
    pred = {key: part.to("meta") for key, part in pred.items()}
    target = [{key: part.to("meta") for key, part in entry.items()} for entry in target]
    matcher = HungarianMatcher(costs)
    with Accelerator(1) as mode:
        matches = matcher(pred, target, groups=groups)
    assert matches.query.is_meta
    assert all(part.is_meta for part in (matches.valid, *(matches[0] if len(lead) == 2 else matches).batch_index()))
    return mode


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("costs", [RT_DETR, MASK2FORMER, RT_DETR | MASK2FORMER | {"siou": 1, "iou": 1}], ids=str)
def test_operators_do_not_grow_and_one_copy_goes_each_way(costs, dtype):
    operators = []
    for lead in itertools.product([1, 6], [1, 8]):
        mode = run_on_accelerator(costs, lead, dtype=dtype)
        assert mode.copies == [("meta", "cpu"), ("cpu", "meta")]
        operators.append(mode.operators)
    assert all(other == operators[0] for other in operators)
    for images in (1, 8):
        mode = run_on_accelerator(costs, (images,), groups=3, dtype=dtype)
        assert mode.copies == [("meta", "cpu"), ("cpu", "meta")]
        assert len(mode.operators) <= len(operators[0])


# --------------------------------------------------------------------------------------------------- not finite, errors


def brute_force(cost):
    """The fewest pairs that are not finite, then the least total of the others."""
    transposed = cost.shape[0] > cost.shape[1]
    cost = cost.T if transposed else cost
    best = min(
        (
            (int((~np.isfinite(cost[range(len(cost)), columns])).sum()), float(np.where(np.isfinite(c), c, 0).sum()))
            for columns in itertools.permutations(range(cost.shape[1]), len(cost))
            for c in [cost[range(len(cost)), columns]]
        ),
    )
    return best


@pytest.mark.parametrize("solver", ["scipy", "own"])
@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(1, 4),
    st.data(),
)
def test_pairs_that_are_not_finite_come_last(solver, rows, columns, drawn):
    numbers = st.sampled_from([0.0, 1.0, -3.0, 7.5, 1e6, -1e6, np.nan, np.inf, -np.inf])
    cost = np.array(drawn.draw(st.lists(numbers, min_size=rows * columns, max_size=rows * columns))).reshape(
        rows, columns
    )
    i, j = solvers.solver_named(solver)(solvers.replace_nonfinite(cost))
    chosen = cost[i, j]
    wrong, total = brute_force(cost)
    assert int((~np.isfinite(chosen)).sum()) == wrong
    np.testing.assert_allclose(np.where(np.isfinite(chosen), chosen, 0).sum(), total, rtol=1e-9)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_replace_leaves_other_images_alone(value):
    pred, target = data((2, 3))
    finite = HungarianMatcher(RT_DETR)(pred, target)
    pred["boxes"][1, 0, 3] = value
    matches = HungarianMatcher(RT_DETR, nonfinite="replace")(pred, target)
    for layer, image in itertools.product(range(2), range(3)):
        if (layer, image) != (1, 0):
            assert torch.equal(matches[layer][image][0], finite[layer][image][0])
    assert 3 not in matches[1][0][0]
    pred["boxes"][1, 2] = value  # of 9 queries, for 12 targets
    matches = HungarianMatcher(RT_DETR, nonfinite="replace")(pred, target)
    assert len(matches[1][2][0]) == 9


def test_what_is_not_finite_is_said():
    pred, target = data((2, 3))
    pred["boxes"][1, 2, 3] = np.nan
    matcher = HungarianMatcher(RT_DETR)
    text = (
        r"HungarianMatcher: the cost in layer 1, image 2 is nan between query 3 and target 0, and of 12 pairs in all "
        r"not finite\. inf or NaN is in pred\['boxes'\]\. With nonfinite='replace' such pairs are matched last"
    )
    with pytest.raises(InputError, match=text):
        matcher(pred, target)
    with pytest.raises(InputError, match="the cost in image 2 is nan"):
        matcher({key: part[1] for key, part in pred.items()}, target)
    pred, target = data()
    target[0]["boxes"][2] = np.inf
    with pytest.raises(InputError, match=r"in image 0 is .* and target 2.*inf or NaN is in target\[…\]\['boxes'\]"):
        matcher(pred, target)
    with pytest.raises(InputError, match="The inputs are finite: the cost overflows"):
        HungarianMatcher({"l1": 3e38})(*[{"boxes": pred["boxes"] + 20}, data()[1]])


def test_a_label_that_was_not_looked_at_is_found_among_the_costs(monkeypatch):
    pred, target = data()
    target[2]["labels"][5] = C
    real = cost_functions.verify_labels
    monkeypatch.setattr(cost_functions, "verify_labels", lambda *_: None)  # as on an accelerator
    calls = iter([lambda *_: None, real])
    monkeypatch.setattr(matchers, "verify_labels", lambda *args: next(calls)(*args))
    with pytest.raises(InputError, match=r"labels \(image, target\) with class indices in \[0, 6\); got 6 at \[2, 5\]"):
        HungarianMatcher(RT_DETR, nonfinite="replace")(pred, target)


def wrong(**changes):
    """Inputs with entries changed: of the predictions, or of an image of the targets."""
    pred, target = data((2, 3), points=(2, 2))
    for name, (image, value) in changes.items():
        (pred if image is None else target[image])[name] = value
    return pred, target


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ((torch.rand(3, 9, 4), []), "expected pred as a mapping with 'logits', 'boxes', 'masks'; got Tensor"),
        (([{}], []), r"got list\. Stack layers to \(L, B, Q, …\)"),
        (
            ({"logit": torch.rand(3, 9, 4)}, []),
            r"expected pred with 'logits' or 'pred_logits'; it holds 'logit'\. Did you mean 'logits'\?",
        ),
        ((wrong()[0], {"labels": 1}), "expected target as a list with a mapping for each image; got dict"),
        ((wrong()[0], wrong()[1][:2]), "expected target with 3 mappings, one for each image of pred; got 2"),
        (
            wrong(logits=(None, torch.rand(9, 6))),
            r"expected pred\['logits'\] of shape \(B, Q, C\), with or without a layer axis",
        ),
        (
            wrong(boxes=(None, torch.rand(3, 9, 4))),
            r"expected pred\['boxes'\] of shape \(2, 3, 9, 4\); got \(3, 9, 4\)",
        ),
        (wrong(boxes=(None, torch.rand(2, 3, 9, 5))), r"pred\['boxes'\] of shape \(2, 3, 9, 4\)"),
        (wrong(masks=(None, torch.rand(2, 3, 9))), r"pred\['masks'\] of shape \(2, 3, 9, P\) or \(2, 3, 9, H, W\)"),
        (wrong(logits=(None, torch.zeros(2, 3, 9, 6).long())), "expected a floating pred"),
        (wrong(labels=(0, torch.rand(4))), r"target\[0\]\['labels'\] with class indices"),
        (
            wrong(labels=(0, torch.tensor([0, 1, 6, 2]))),
            r"labels \(image, target\) with class indices in \[0, 6\); got 6 at \[0, 2\]",
        ),
        (
            wrong(labels=(2, torch.zeros(3).long())),
            r"expected target\[2\]\['boxes'\] with 3 rows, as many as target\[2\]\['labels'\]; got 12",
        ),
        (
            wrong(labels=(0, torch.zeros(4, 1).long())),
            r"expected target\[0\]\['labels'\] of shape \(n,\); got \(4, 1\)",
        ),
        (wrong(boxes=(0, torch.rand(4, 5))), r"expected target\[0\]\['boxes'\] of shape \(n, 4\); got \(4, 5\)"),
        (
            wrong(masks=(0, torch.ones(4, 2, 3))),
            r"target\[0\]\['masks'\] of shape \(n, 2, 2\); got \(4, 2, 3\)\. Masks and their predictions",
        ),
        (wrong(masks=(0, torch.full((4, 2, 2), 255))), r"expected masks with numbers in \[0, 1\]; got 255"),
        (
            wrong(boxes=(0, torch.rand(4, 4, device="meta"))),
            r"expected target\[0\]\['boxes'\] on cpu, as pred; got meta",
        ),
        (wrong(boxes=(0, [1])), r"expected target\[0\]\['boxes'\] as a tensor; got list"),
    ],
)
def test_wrong_inputs(inputs, text):
    with pytest.raises(InputError, match=f"^HungarianMatcher: .*{text}"):
        HungarianMatcher(RT_DETR | MASK2FORMER)(*inputs)


def test_masks_alone_have_axes_of_queries():
    with pytest.raises(InputError, match=r"pred\['masks'\] of shape \(B, Q, P\) or \(B, Q, H, W\), with or without"):
        HungarianMatcher({"mask_bce": 1})({"masks": torch.rand(3, 4)}, [{"masks": torch.rand(2, 4)}] * 3)


@pytest.mark.parametrize(
    ("costs", "text"),
    [
        ({"focl": 1}, r"costs: expected focal, .*; got 'focl'\. Did you mean 'focal'\?"),
        ({"focal": {"alpa": 1}}, r"costs: focal has no option 'alpa'\. Did you mean 'alpha'\?"),
        ({"giou": {"pairwise": True}}, "giou has no option 'pairwise'"),
        ({"mask_bce": {"spatial_dims": 1}}, "mask_bce has no option 'spatial_dims'"),
        ({"l1": {"x": 1}}, r"l1 has no option 'x'\. It has none"),
        ({"focal": 0, "l1": 0.0}, "costs: expected at least one with a weight > 0"),
        ({}, "costs: expected at least one with a weight > 0"),
        ({"focal": -1}, r"costs\.focal: expected a number >= 0; got -1"),
        ({"focal": float("nan")}, r"costs\.focal: expected a number >= 0"),
        ({"focal": {"alpha": 2}}, r"costs\.focal: alpha: expected a number in \[0, 1\]; got 2"),
        ({"mask_dice": {"smooth": -1}}, r"costs\.mask_dice: smooth: expected a number >= 0; got -1"),
        ({"giou": {"mode": "linea"}}, r"costs\.giou: GIoULoss: mode: .*Did you mean 'linear'\?"),
        ({"giou": {"bbox_format": "xy"}}, r"costs\.giou: GIoULoss: bbox_format"),
        ({"giou": {"eps": 0}}, r"costs\.giou: GIoULoss: eps"),
    ],
)
def test_wrong_costs(costs, text):
    with pytest.raises(ConfigError, match=f"^HungarianMatcher: (costs: )?{text}"):
        HungarianMatcher(costs)


def test_wrong_parameters():
    for parameter in ("bbox_format", "nonfinite", "solver"):
        with pytest.raises(ConfigError, match=f"HungarianMatcher: {parameter}: expected one of"):
            HungarianMatcher(RT_DETR, **{parameter: "x"})
    with pytest.raises(TypeError, match="costs: expected a mapping, cost → weight; got list"):
        HungarianMatcher(["focal"])
    with pytest.raises(TypeError, match=r"costs\.focal: expected a number >= 0; got 'high' \(str\)"):
        HungarianMatcher({"focal": "high"})


def test_numbers_as_yaml_reads_them():
    options = {"focal": {"weight": "2e0"}, "giou": {"eps": "1e-6", "mode": "linear"}}
    expected = HungarianMatcher({"focal": 2, "giou": 1})
    pred, target = data()
    assert torch.equal(HungarianMatcher(options).cost(pred, target), expected.cost(pred, target))


def test_a_module_without_parameters():
    matcher = HungarianMatcher({"focal": {"weight": 2, "gamma": 1.0}, "l1": 5}, nonfinite="replace", solver="own")
    assert not list(matcher.parameters())
    assert not matcher.state_dict()
    assert repr(matcher).startswith(
        "HungarianMatcher({'focal': {'weight': 2, 'gamma': 1.0}, 'l1': 5}, bbox_format='cxcywh'"
    )
    pred, target = data()
    for other in (
        copy.deepcopy(matcher),
        pickle.loads(pickle.dumps(matcher)),
        pickle.loads(pickle.dumps(HungarianMatcher(RT_DETR))),
    ):
        assert torch.equal(other(pred, target).query, HungarianMatcher(other.costs)(pred, target).query)


# ------------------------------------------------------------------------------------------------------------ solver


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 12),
    st.integers(0, 12),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["normal", "ties", "large", "equal"]),
)
def test_own_solver_has_the_total_of_scipy(rows, columns, seed, kind):
    random = np.random.default_rng(seed)
    cost = random.normal(size=(rows, columns))
    if kind == "ties":
        cost = random.integers(-2, 3, (rows, columns)).astype(float)
    if kind == "large":
        cost = cost * 10.0 ** random.integers(-10, 10, (rows, columns))
    if kind == "equal":
        cost = np.full((rows, columns), 0.3)
    i, j = solvers.solve(cost)
    expected = linear_sum_assignment(cost)
    assert (np.diff(i) > 0).all()
    assert len(set(j.tolist())) == len(j) == min(rows, columns)
    assert (i.dtype, j.dtype) == (expected[0].dtype, expected[1].dtype)
    np.testing.assert_allclose(cost[i, j].sum(), cost[expected].sum(), rtol=1e-9, atol=1e-9)
    if kind == "normal":
        assert (j == expected[1]).all()


def test_solvers_agree_on_a_batch():
    pred, target = data((2, 3), queries=60, sizes=(30, 0, 80))
    pairs = [HungarianMatcher(RT_DETR, solver=name)(pred, target).query for name in ("auto", "scipy", "own")]
    assert torch.equal(pairs[0], pairs[1])
    assert torch.equal(pairs[0], pairs[2])


def test_without_scipy(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ImportError, match="solver='scipy': pip install scipy, or use solver='own'"):
        HungarianMatcher(RT_DETR, solver="scipy")
    assert HungarianMatcher(RT_DETR)._solve is solvers.solve


def test_without_numpy(monkeypatch):
    monkeypatch.setitem(sys.modules, "numpy", None)
    spec = importlib.util.spec_from_file_location("copy_of_solvers", solvers.__file__)
    with pytest.raises(ImportError, match=r"losses_det\.matching needs numpy: pip install numpy"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_the_own_solver_is_short():
    assert len(inspect.getsource(solvers.solve).splitlines()) <= 60


def test_a_training_step_waits_once():
    """Matching, RT-DETR's losses of all layers and the backward, on a device that has no values to look at."""
    pred, target = data((3, 2), sizes=(3, 5))
    pred = {key: part.to("meta").requires_grad_() for key, part in pred.items()}
    target = [{key: part.to("meta") for key, part in entry.items()} for entry in target]
    matcher, scores = HungarianMatcher(RT_DETR), VariFocalLoss(detach_weight=True)
    l1, giou = L1Loss(loss_weight=5.0), GIoULoss(bbox_format="cxcywh", loss_weight=2.0)
    with Accelerator(1) as mode:
        total = 0
        for layer, found in enumerate(matcher(pred, target)):
            image, query, _ = found.batch_index()
            boxes = torch.cat([t["boxes"][index] for t, (_, index) in zip(target, found, strict=True)])
            labels = torch.cat([t["labels"][index] for t, (_, index) in zip(target, found, strict=True)])
            matched, logits = pred["boxes"][layer, image, query], pred["logits"][layer]
            quality = torch.zeros_like(logits)
            quality[image, query, labels] = compute_iou(matched.detach(), boxes, bbox_format="cxcywh")
            total = total + scores(logits, quality, avg_factor=8)
            total = total + l1(matched, boxes, avg_factor=8) + giou(matched, boxes, avg_factor=8)
        total.backward()
    assert mode.copies == [("meta", "cpu"), ("cpu", "meta")]
    assert pred["boxes"].grad.shape == pred["boxes"].shape
