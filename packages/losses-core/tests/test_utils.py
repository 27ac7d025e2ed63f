"""Utilities: labels, class weights, focal factors, overlap, reductions, precision, autograd pieces."""

from __future__ import annotations

import contextlib
import inspect
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from losses_core import InputError, _blocks, debug
from losses_core.kernels import use_definitions
from losses_core.utils import (
    compute_giou,
    compute_iou,
    convert_to_one_hot,
    focal_weight,
    get_class_weight,
    reduce_loss,
    sigmoid_focal_loss,
    weight_reduce_loss,
    weighted_loss,
)
from losses_core.utils.autograd import zero_grad_where
from losses_core.utils.focal import sigmoid_focal
from losses_core.utils.precision import first_tensor, full_precision, map_tensors
from losses_core.utils.value_checks import warn_of_probabilities


class TestOneHot:
    def test_equals_numpy_at_every_axis(self):
        labels = torch.randint(0, 4, (2, 3, 5))
        expected = np.eye(4)[labels.numpy()]
        for dim in (-1, 0, 1, 2, 3, -2):
            actual = convert_to_one_hot(labels, 4, dim=dim).numpy()
            np.testing.assert_array_equal(actual, np.moveaxis(expected, -1, dim))

    def test_ignored_rows_are_zero_and_the_labels_stay(self):
        labels = torch.tensor([0, 255, 2])
        result = convert_to_one_hot(labels, 3, ignore_index=255, dtype=torch.bool)
        assert result.tolist() == [[True, False, False], [False] * 3, [False, False, True]]
        assert labels.tolist() == [0, 255, 2]

    def test_bad_input(self):
        with pytest.raises(InputError, match="class indices"):
            convert_to_one_hot(torch.zeros(3), 3)
        with pytest.raises(InputError, match="num_classes"):
            convert_to_one_hot(torch.zeros(3, dtype=torch.long), 0)
        with pytest.raises(RuntimeError):
            convert_to_one_hot(torch.tensor([3]), 3)


class TestClassWeight:
    LABELS = (0, 0, 0, 0, 1, 1, 3)

    def test_inverse(self):
        expected = [7 / (3 * 4), 7 / (3 * 2), 0, 7 / 3]
        for labels in (list(self.LABELS), np.array(self.LABELS), torch.tensor(self.LABELS).reshape(7, 1)):
            torch.testing.assert_close(get_class_weight(labels), torch.tensor(expected))
        root = get_class_weight(self.LABELS, "sqrt_inverse")
        torch.testing.assert_close(root, torch.tensor(expected).sqrt())

    def test_effective_num(self):
        counts, beta = np.array([4.0, 2.0, 1.0]), 0.9
        raw = (1 - beta) / (1 - beta**counts)
        raw *= 3 / raw.sum()
        actual = get_class_weight(self.LABELS, "effective_num", beta=beta)
        torch.testing.assert_close(actual, torch.tensor([raw[0], raw[1], 0, raw[2]]).float())
        assert get_class_weight([0] * 10**6 + [1], "effective_num", beta=1 - 1e-12).isfinite().all()
        torch.testing.assert_close(get_class_weight([0, 0, 1], "effective_num", beta=0.0), torch.ones(2))

    def test_median_freq(self):
        frequency = np.array([4, 2, 1]) / 7
        expected = np.median(frequency) / frequency
        actual = get_class_weight(self.LABELS, "median_freq")
        torch.testing.assert_close(actual, torch.tensor([expected[0], expected[1], 0, expected[2]]).float())

    def test_median_freq_per_image_counts_images_where_the_class_occurs(self):
        labels = torch.tensor([[0, 0, 0, 1], [0, 0, 0, 0], [2, 2, 0, 0]])
        frequency = np.array([9 / 12, 1 / 4, 2 / 4])
        expected = torch.tensor(np.median(frequency) / frequency).float()
        torch.testing.assert_close(get_class_weight(labels, "median_freq", per_image=True), expected)

    def test_num_classes_ignore_and_normalize(self):
        weight = get_class_weight([0, 1, 1, 255], num_classes=4, ignore_index=255, normalize="mean")
        assert weight.shape == (4,)
        assert weight[2:].tolist() == [0, 0]
        torch.testing.assert_close(weight[:2].mean(), torch.tensor(1.0))

    def test_nothing_counted(self):
        for method in ("inverse", "sqrt_inverse", "effective_num", "median_freq"):
            weight = get_class_weight([255, 255], method, num_classes=2, ignore_index=255)
            assert weight.tolist() == [0, 0]
            weight = get_class_weight([255], method, num_classes=2, ignore_index=255, normalize="mean")
            assert weight.tolist() == [0, 0]

    @given(
        st.lists(st.integers(0, 4), min_size=1, max_size=50),
        st.sampled_from(["inverse", "sqrt_inverse", "effective_num", "median_freq"]),
        st.sampled_from([None, "mean"]),
        st.sampled_from([0.0, 0.9, 0.9999]),
    )
    def test_counts_in_place_of_labels(self, labels, method, normalize, beta):
        options = {"method": method, "normalize": normalize, "beta": beta}
        expected = get_class_weight(labels, num_classes=5, **options)
        counts = torch.bincount(torch.tensor(labels), minlength=5)
        for given_counts in (counts, counts.tolist(), counts.numpy(), counts.double(), tuple(counts.tolist())):
            assert torch.equal(get_class_weight(counts=given_counts, **options), expected)

    @pytest.mark.parametrize(
        ("counts", "text"),
        [
            ([], r"counts: expected finite numbers >= 0, one per class; got \[\]"),
            (3, "counts: expected .*; got 3"),
            (torch.tensor(3), "counts: expected .*; got tensor"),
            ("12", "counts: expected .*; got '12'"),
            ([1, "2"], r"got '2' at \[1\]"),
            ([1, -2], r"got -2 at \[1\]"),
            ([float("nan")], r"got nan at \[0\]"),
            ([1, float("inf")], r"got inf at \[1\]"),
            ([10**400], r"an integer of 1329 bits\) at \[0\]"),
            ([[1, 2]], r"got \[1, 2\] at \[0\]"),
            ([True], r"got True at \[0\]"),
        ],
    )
    def test_bad_counts(self, counts, text):
        with pytest.raises(InputError, match=text):
            get_class_weight(counts=counts)

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"labels": [0.5]}, "class indices"),
            ({"labels": [0, 5], "num_classes": 3}, r"labels in \[0, 3\).*from 0 to 5"),
            ({"labels": [-1, 0]}, "got labels from -1"),
            ({"labels": [0], "method": "invers"}, "method: expected one of .*; got 'invers'. Did you mean 'inverse'"),
            ({"labels": [0], "beta": "0.9"}, "beta: expected a number >= 0 and < 1; got '0.9'"),
            ({}, "expected either labels or counts; got neither"),
            ({"labels": [0], "counts": [1]}, "expected either labels or counts; got both"),
            ({"counts": [1], "num_classes": 1}, "num_classes, ignore_index and per_image are for labels"),
            ({"counts": [1], "ignore_index": 0}, "num_classes, ignore_index and per_image are for labels"),
            ({"counts": [1], "method": "median_freq", "per_image": True}, "per_image are for labels"),
            ({"labels": [0], "beta": 1.0}, "beta"),
            ({"labels": [0], "normalize": "sum"}, "normalize"),
            ({"labels": [0], "per_image": True}, "per_image"),
        ],
    )
    def test_bad_input(self, options, text):
        with pytest.raises(InputError, match=text):
            get_class_weight(**options)

    @given(st.lists(st.integers(0, 5), min_size=1, max_size=50))
    def test_absent_classes_weigh_nothing_and_the_rest_is_finite(self, labels):
        for method in ("inverse", "sqrt_inverse", "effective_num", "median_freq"):
            weight = get_class_weight(labels, method, num_classes=6)
            present = torch.bincount(torch.tensor(labels), minlength=6) > 0
            assert torch.equal(weight > 0, present)
            assert weight.isfinite().all()
            assert weight.dtype == torch.float32


class TestFocal:
    @pytest.mark.parametrize("gamma", [0.0, 0.25, 1.0, 2.0, 5.0])
    def test_weight_is_finite_at_both_ends(self, gamma):
        p = torch.tensor([0.0, 0.3, 1.0], requires_grad=True)
        weight = focal_weight(p, gamma)
        (gradient,) = torch.autograd.grad(weight.sum(), p)
        assert gradient.isfinite().all()
        torch.testing.assert_close(weight[:2], (1 - p[:2]) ** gamma)

    @pytest.mark.parametrize("alpha", [0.25, -1, None])
    @pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
    def test_loss_equals_the_formula_and_its_derivative(self, alpha, gamma):
        x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
        t = torch.rand(5, 3, dtype=torch.float64)
        p = x.sigmoid()
        p_t = p * t + (1 - p) * (1 - t)
        expected = (1 - p_t) ** gamma * F.binary_cross_entropy_with_logits(x, t, reduction="none")
        if alpha is not None and alpha >= 0:
            expected = expected * (alpha * t + (1 - alpha) * (1 - t))
        actual = sigmoid_focal_loss(x, t, alpha, gamma)
        torch.testing.assert_close(actual, expected)
        got, want = (torch.autograd.grad(v.sum(), x)[0] for v in (actual, expected))
        torch.testing.assert_close(got, want)

    @pytest.mark.parametrize("dtype", [torch.long, torch.bool, torch.uint8])
    def test_other_targets_and_reductions(self, dtype):
        x, t = torch.randn(4), torch.tensor([0, 1, 1, 0])
        value = sigmoid_focal_loss(x, t.float())
        torch.testing.assert_close(sigmoid_focal_loss(x, t.to(dtype)), value)
        torch.testing.assert_close(sigmoid_focal_loss(x, t, reduction="sum"), value.sum())
        assert sigmoid_focal_loss(x.half(), t).dtype == torch.float32

    def test_a_target_that_learns_gets_its_gradient(self):
        x = torch.randn(3, dtype=torch.float64)
        t = torch.rand(3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda t: sigmoid_focal_loss(x, t), t)

    def test_options_that_learn_get_their_gradient(self):
        x, t = torch.randn(3, dtype=torch.float64), torch.tensor([0.0, 1.0, -100.0], dtype=torch.float64)
        options = [torch.tensor(0.3, dtype=torch.float64, requires_grad=True) for _ in range(2)]

        def focal(alpha, weight):
            return sigmoid_focal(x, t, alpha=alpha, class_weight=weight, ignore_index=-100).value

        assert torch.autograd.gradcheck(focal, options)
        x.requires_grad_()
        t.requires_grad_()
        value = focal(*options)
        assert value[2] == 0
        assert torch.autograd.grad(value.sum(), x)[0][2] == 0

    @pytest.mark.parametrize("shape", [(), (5,), (4, 3), (2, 3, 4), (2, 3, 4, 5)])
    @pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 1.5, 2.0, 5.0])
    @pytest.mark.parametrize("block", [7, 1 << 16])
    def test_kernel_equals_definition(self, shape, gamma, block, monkeypatch):
        monkeypatch.setattr(_blocks, "CPU_BLOCK", block)
        x, t = 3 * torch.randn(shape, dtype=torch.float64), torch.rand(shape, dtype=torch.float64)
        x.requires_grad_()
        per_class = torch.rand(3, dtype=torch.float64) if len(shape) > 1 else 0.3
        for options in (
            {"alpha": None},
            {"alpha": -1, "class_weight": per_class},
            {"alpha": per_class, "class_weight": per_class, "ignore_index": -100},
        ):
            target = t if "ignore_index" not in options else torch.where(torch.rand(shape) < 0.3, -100.0, t)
            results = []
            for context in (contextlib.nullcontext, use_definitions):
                with context():
                    value, normalizer, _ = sigmoid_focal(x, target, gamma=gamma, **options)
                    results.append((value, *torch.autograd.grad(value.sum(), x)))
                    assert (normalizer is None) == (target is t or bool((target != -100).all()))
            torch.testing.assert_close(*results)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_saturated_logits_in_half_precision(self, dtype):
        x = torch.tensor([6e4, -6e4, 6e4, -6e4, 0.0], dtype=dtype, requires_grad=True)
        for gamma in (0.0, 0.5, 2.0):
            value = sigmoid_focal_loss(x, torch.tensor([0, 0, 1, 1, 1]), gamma=gamma)
            (gradient,) = torch.autograd.grad(value.sum(), x)
            assert value.isfinite().all()
            assert gradient.isfinite().all()
            assert gradient.dtype == dtype

    def test_bad_input(self):
        with pytest.raises(InputError, match=r"sigmoid_focal_loss: expected target of the shape of pred \(2,\)"):
            sigmoid_focal_loss(torch.zeros(2), torch.zeros(2, 1))
        with pytest.raises(InputError, match=r"sigmoid_focal_loss: expected target with numbers in \[0, 1\]; got 255"):
            sigmoid_focal_loss(torch.zeros(2), torch.tensor([0, 255]))
        for function in (
            lambda: focal_weight(torch.zeros(2), -1),
            lambda: sigmoid_focal_loss(*torch.zeros(2, 2), 1, -1),
        ):
            with pytest.raises(InputError, match="gamma: expected a number >= 0"):
                function()


def _iou(a, b):
    """IoU and GIoU of two boxes, written out."""
    area = lambda box: max(box[2] - box[0], 0) * max(box[3] - box[1], 0)  # noqa: E731
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    inter = width * height
    union = area(a) + area(b) - inter
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return inter / union, inter / union - (hull - union) / hull


class TestBoxes:
    @pytest.fixture
    def boxes(self):
        torch.manual_seed(0)
        corner, size = torch.rand(6, 2, dtype=torch.float64), torch.rand(6, 2, dtype=torch.float64) + 0.1
        return torch.cat([corner, corner + size], 1)

    def test_equals_the_definition(self, boxes):
        a, b = boxes[:3], boxes[3:]
        for function, which in ((compute_iou, 0), (compute_giou, 1)):
            aligned = [_iou(x, y)[which] for x, y in zip(a.tolist(), b.tolist(), strict=True)]
            np.testing.assert_allclose(function(a, b), aligned, rtol=1e-12)
            pairs = [[_iou(x, y)[which] for y in boxes.tolist()] for x in a.tolist()]
            np.testing.assert_allclose(function(a, boxes, pairwise=True), pairs, rtol=1e-12, atol=1e-12)

    def test_formats_agree(self, boxes):
        a, b = boxes[:3], boxes[3:]
        expected = compute_giou(a, b)

        def centre(box):
            return torch.cat([(box[:, :2] + box[:, 2:]) / 2, box[:, 2:] - box[:, :2]], 1)

        def corner(box):
            return torch.cat([box[:, :2], box[:, 2:] - box[:, :2]], 1)

        torch.testing.assert_close(compute_giou(centre(a), centre(b), bbox_format="xywh"), expected)
        torch.testing.assert_close(compute_giou(centre(a), centre(b), bbox_format="cxcywh"), expected)
        torch.testing.assert_close(compute_giou(corner(a), corner(b), bbox_format="ltwh"), expected)

    def test_empty_boxes_give_zero(self):
        point = torch.zeros(1, 4)
        assert compute_iou(point, point) == 0
        assert compute_iou(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0,)
        assert compute_iou(torch.zeros(0, 4), torch.zeros(2, 4), pairwise=True).shape == (0, 2)
        large = torch.tensor([[0, 0, 4000, 4000]], dtype=torch.float16)
        assert compute_iou(large, large) == 1

    def test_bad_input(self):
        with pytest.raises(InputError, match=r"compute_iou: expected box1 and box2 of one shape.*pairwise=True"):
            compute_iou(torch.zeros(2, 4), torch.zeros(3, 4))
        with pytest.raises(InputError, match=r"box2 of shape \(…, 4\); got \(2, 5\)"):
            compute_iou(torch.zeros(2, 4), torch.zeros(2, 5))
        with pytest.raises(InputError, match=r"box1 of shape \(N, 4\) with pairwise=True"):
            compute_giou(torch.zeros(2, 2, 4), torch.zeros(2, 4), pairwise=True)
        with pytest.raises(InputError, match="floating box1"):
            compute_iou(torch.zeros(2, 4).long(), torch.zeros(2, 4))
        with pytest.raises(InputError, match="bbox_format: expected one of 'xyxy', 'xywh', 'cxcywh', 'ltwh'"):
            compute_iou(torch.zeros(2, 4), torch.zeros(2, 4), bbox_format="yxyx")

    @given(st.lists(st.floats(-100, 100), min_size=8, max_size=8))
    def test_iou_is_symmetric_and_bounded(self, numbers):
        a, b = torch.tensor(numbers, dtype=torch.float64).reshape(2, 1, 4)
        value = compute_iou(a, b)
        assert 0 <= value <= 1 + 1e-12
        torch.testing.assert_close(value, compute_iou(b, a))


class TestReductions:
    def test_equal_the_definition(self):
        loss, weight = torch.rand(4, 3), torch.rand(4)
        torch.testing.assert_close(reduce_loss(loss, "mean"), loss.mean())
        torch.testing.assert_close(reduce_loss(loss, "sum"), loss.sum())
        assert torch.equal(reduce_loss(loss, "none"), loss)
        weighted = loss * weight.unsqueeze(1)
        torch.testing.assert_close(weight_reduce_loss(loss, weight), weighted.mean())
        torch.testing.assert_close(weight_reduce_loss(loss, weight, avg_factor=5), weighted.sum() / 5)
        assert weight_reduce_loss(loss, reduction="none", avg_factor=2).shape == loss.shape
        assert reduce_loss(torch.zeros(0), "mean") == 0
        assert reduce_loss(torch.full((70000,), 1.0, dtype=torch.float16), "sum") == 70000

    def test_a_weight_of_zero_hides_nan(self):
        loss = torch.tensor([1.0, float("nan")])
        assert weight_reduce_loss(loss, torch.tensor([1, 0]), "sum") == 1
        assert reduce_loss(loss, "mean").isnan()

    def test_bad_input(self):
        with pytest.raises(InputError, match="reduction: expected one of 'none', 'mean', 'sum'; got 'avg'"):
            reduce_loss(torch.zeros(2), "avg")
        with pytest.raises(InputError, match=r"weight_reduce_loss: expected weight.*\(2, 3\)"):
            weight_reduce_loss(torch.zeros(2, 3), torch.zeros(3))
        with pytest.raises(InputError, match="takes no avg_factor"):
            weight_reduce_loss(torch.zeros(2), reduction="sum", avg_factor=1)

    def test_weighted_loss(self):
        @weighted_loss
        def scaled(pred, target, scale=1.0, **rest):
            return (pred / target) * scale

        assert list(inspect.signature(scaled).parameters) == [
            *("pred", "target", "weight", "reduction", "avg_factor", "scale", "rest")
        ]
        pred = torch.tensor([1.0, 2.0], requires_grad=True, dtype=torch.float16)
        value = scaled(pred, torch.tensor([1.0, 0.0]), torch.tensor([2.0, 0.0]), "sum", scale=3.0)
        assert value == 6
        assert value.dtype == torch.float32
        (gradient,) = torch.autograd.grad(value, pred)
        assert gradient.tolist() == [6, 0]
        assert scaled(pred, pred) == 1


class TestAutograd:
    def test_zero_grad_where_is_an_identity_with_a_gate(self):
        x = torch.tensor([1.0, float("inf"), 3.0], requires_grad=True)
        y = zero_grad_where(x, torch.tensor([False, True, False]))
        assert torch.equal(x, y)
        assert torch.autograd.grad((y * y).sum(), x)[0].tolist() == [2, 0, 6]
        plain = torch.ones(2)
        assert zero_grad_where(plain, torch.ones(2, dtype=torch.bool)) is plain

    def test_functions_transform(self):
        x, t = torch.randn(4, 3), torch.randint(0, 2, (4, 3))
        per_row = torch.vmap(torch.func.grad(lambda x, t: sigmoid_focal_loss(x, t).sum()))(x, t)
        x.requires_grad_()
        torch.testing.assert_close(per_row, torch.autograd.grad(sigmoid_focal_loss(x, t).sum(), x)[0])


class TestPrecision:
    def test_trees(self):
        tree = {"a": [torch.zeros(1), (torch.ones(1), "text")]}
        doubled = map_tensors(lambda t: t * 2, tree)
        assert doubled["a"][1][0] == 2
        assert doubled["a"][1][1] == "text"
        assert first_tensor(tree) is tree["a"][0]
        assert first_tensor(["x", {"y": 3}]) is None

    def test_a_function_without_tensors_and_one_that_names_itself(self):
        @full_precision
        def constant():
            return 3

        @full_precision
        def refuses(x):
            raise InputError("no")

        assert constant() == 3
        with pytest.raises(InputError, match="refuses: no"):
            refuses(torch.zeros(1))


def test_importing_the_core_imports_nothing_heavy():
    script = (
        "import sys, torch; before = set(sys.modules); import losses_core; "
        "new = {name.split('.')[0] for name in set(sys.modules) - before}; "
        "print(*sorted(new - set(sys.stdlib_module_names)))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert found.stdout.split() == ["losses_core"]


def test_probabilities_in_the_place_of_logits():
    x = torch.randn(4, 5)
    for pred, axis in ((x.softmax(1), 1), (x.sigmoid(), None), (x.softmax(1).half(), 1)):
        with debug(), pytest.warns(UserWarning, match=r"looks like probabilities.* takes logits"):
            warn_of_probabilities(pred, axis)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_probabilities(x.softmax(1), 1)  # nothing is looked at outside of `debug`
        with debug():
            for pred, axis in ((x, 1), (x.sigmoid(), 1), (torch.zeros(4, 5), None), (torch.rand(4), None)):
                warn_of_probabilities(pred, axis)
            warn_of_probabilities(x.softmax(1).to("meta"), 1)
