"""What the contract does not say: equality with torch, target forms, texts of errors, documented differences."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import losses_cls
from losses_cls import (
    AsymmetricLoss,
    AsymmetricLossOptimized,
    BinaryCrossEntropyLoss,
    BinaryFocalLoss,
    CrossEntropyLoss,
    FocalLoss,
    LabelSmoothLoss,
    MultiLabelFocalLoss,
    SoftCrossEntropyLoss,
)
from losses_core import InputError, build_loss
from losses_core.utils import warn


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def same(actual, expected, *inputs):
    torch.testing.assert_close(actual, expected)
    gradients = [torch.autograd.grad(value.sum(), inputs, retain_graph=True) for value in (actual, expected)]
    for got, want in zip(*gradients, strict=True):
        torch.testing.assert_close(got, want)


class TestEqualsTorch:
    @pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
    @pytest.mark.parametrize("shape", [(), (5,), (4, 5), (2, 3, 4)])
    def test_cross_entropy(self, reduction, weighted, smoothing, shape):
        x = torch.randn(6, 3, *shape, requires_grad=True)
        y = torch.randint(0, 3, (6, *shape))
        y[0] = y[3] = -100
        weight = torch.tensor([0.5, 1.0, 2.0]) if weighted else None
        loss = CrossEntropyLoss(weight, label_smoothing=smoothing, reduction=reduction)
        same(loss(x, y), F.cross_entropy(x, y, weight, label_smoothing=smoothing, reduction=reduction), x)
        smooth = min(smoothing, 0.9)
        again = LabelSmoothLoss(smooth, class_weight=weight, reduction=reduction)
        same(again(x, y), F.cross_entropy(x, y, weight, label_smoothing=smooth, reduction=reduction), x)

    @pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
    @pytest.mark.parametrize("weight", [None, [0.5, 1.0, 2.0]])
    def test_probabilities(self, reduction, weight):
        x, q = torch.randn(6, 3, 4, requires_grad=True), torch.rand(6, 3, 4, requires_grad=True)
        tensor = None if weight is None else torch.tensor(weight)
        expected = F.cross_entropy(x, q, tensor, reduction=reduction)
        same(SoftCrossEntropyLoss(weight, reduction=reduction)(x, q), expected, x, q)
        same(CrossEntropyLoss(weight, reduction=reduction)(x, q.detach()), expected, x)
        smoothed = F.cross_entropy(x, q, tensor, reduction=reduction, label_smoothing=0.2)
        same(CrossEntropyLoss(weight, label_smoothing=0.2, reduction=reduction)(x, q), smoothed, x, q)

    @pytest.mark.parametrize("pos_weight", [None, 2.0, [0.5, 1.0, 2.0]])
    def test_binary(self, pos_weight):
        x, y = torch.randn(6, 3, requires_grad=True), torch.rand(6, 3, requires_grad=True)
        tensor = None if pos_weight is None else torch.tensor(pos_weight)
        expected = F.binary_cross_entropy_with_logits(x, y, pos_weight=tensor)
        same(BinaryCrossEntropyLoss(pos_weight)(x, y), expected, x, y)
        p = x.sigmoid()
        same(BinaryCrossEntropyLoss(pos_weight, with_logits=False)(p, y), expected, x, y)

    def test_logits_that_share_an_offset(self):
        x, q = torch.randn(600, 1000) + 10, torch.randn(600, 1000).softmax(1)
        x.requires_grad_()
        for reduction in ("mean", "none"):
            same(SoftCrossEntropyLoss(reduction=reduction)(x, q), F.cross_entropy(x, q, reduction=reduction), x)

    @pytest.mark.parametrize("offset", [0.0, 1000.0])
    @pytest.mark.parametrize("confident", [0.0, 12.0])
    def test_rounding_errors_are_those_of_torch(self, offset, confident):
        x, y = torch.randn(300, 200), torch.randint(0, 200, (300,))
        x[range(300), y] += confident
        x, q = (x + offset).double(), F.one_hot(y, 200).double()  # of numbers that float32 holds
        pairs = [
            (CrossEntropyLoss(), F.cross_entropy, y),
            (LabelSmoothLoss(), lambda x, y, **o: F.cross_entropy(x, y, label_smoothing=0.1, **o), y),
            (SoftCrossEntropyLoss(), F.cross_entropy, q),
        ]
        for loss, theirs, target in pairs:
            single = target.float() if target.is_floating_point() else target
            exact = theirs(x.float().double(), target, reduction="none")
            error = (loss(x.float(), single, reduction_override="none") - exact).abs()
            reference = (theirs(x.float(), single, reduction="none") - exact).abs()
            assert error.max() <= 4 * reference.max() + 1e-7
            assert error.mean() <= 4 * reference.mean() + 1e-8

    def test_probabilities_are_bounded_as_in_torch(self):
        p = torch.tensor([0.0, 1.0, 0.0, 1.0], requires_grad=True)
        y = torch.tensor([1.0, 0.0, 0.0, 1.0])
        value = BinaryCrossEntropyLoss(with_logits=False, reduction="none")(p, y)
        assert torch.equal(value, F.binary_cross_entropy(p, y, reduction="none"))
        assert torch.autograd.grad(value.sum(), p)[0].tolist() == [0, 0, 1, -1]

    def test_focal_without_focus_is_cross_entropy(self):
        x, y = torch.randn(6, 3, requires_grad=True), torch.tensor([0, 1, 2, -100, 1, 1])
        weight = [0.5, 1.0, 2.0]
        same(FocalLoss(alpha=None, gamma=0, class_weight=weight)(x, y), CrossEntropyLoss(weight)(x, y), x)

    def test_ignored_labels_differ_from_torch_where_torch_fails(self):
        x, y = torch.randn(2, 3, requires_grad=True), torch.full((2,), -100)
        assert F.cross_entropy(x, y).isnan()
        value = CrossEntropyLoss()(x, y)
        assert value == 0
        assert not torch.autograd.grad(value, x)[0].any()


class TestTargets:
    def test_avg_factor_gives_the_plain_mean(self):
        x, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 2])
        loss = CrossEntropyLoss([1.0, 2.0, 3.0])
        plain = loss(x, y, reduction_override="sum") / 4
        torch.testing.assert_close(loss(x, y, avg_factor=4), plain)
        assert not torch.isclose(loss(x, y), plain)

    def test_ignore_index_per_call(self):
        x, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 2])
        for cls in (CrossEntropyLoss, FocalLoss, LabelSmoothLoss):
            torch.testing.assert_close(cls()(x, y, ignore_index=2), cls()(x[:2], y[:2]))

    def test_nothing_is_ignored_with_ignore_index_none(self):
        x, y, t = torch.randn(4, 3), torch.tensor([0, 1, 2, 2]), torch.randint(0, 2, (4, 3))
        for cls, target in (
            (CrossEntropyLoss, y),
            (FocalLoss, y),
            (LabelSmoothLoss, y),
            (BinaryCrossEntropyLoss, t),
            (BinaryFocalLoss, t),
            (MultiLabelFocalLoss, t),
            (AsymmetricLoss, t),
        ):
            expected = cls()(x, target)
            torch.testing.assert_close(cls(ignore_index=1)(x, target, ignore_index=None), expected)
            torch.testing.assert_close(cls(ignore_index=None)(x, target), expected)
            assert build_loss(cls(ignore_index=None).to_config()).ignore_index is None

    @pytest.mark.parametrize("target", [torch.uint8, torch.int16, torch.int32])
    def test_labels_of_any_integer_dtype(self, target):
        x, y = torch.randn(4, 3, 5), torch.randint(0, 3, (4, 5))
        for loss in (CrossEntropyLoss(), CrossEntropyLoss([1.0, 2.0, 3.0]), FocalLoss(), FocalLoss(use_sigmoid=True)):
            torch.testing.assert_close(loss(x, y.to(target)), loss(x, y))

    @pytest.mark.parametrize(
        ("loss", "allowed"),
        [
            (CrossEntropyLoss(), "[0, 3) or ignore_index=-100"),
            (CrossEntropyLoss([1.0, 1.0, 1.0]), "[0, 3) or ignore_index=-100"),
            (CrossEntropyLoss(ignore_index=None), "[0, 3)"),
            (LabelSmoothLoss(), "[0, 3) or ignore_index=-100"),
            (FocalLoss(), "[0, 3) or ignore_index=-100"),
            (FocalLoss(use_sigmoid=True), "[0, 3), 3 or ignore_index=-100"),
        ],
        ids=["plain", "weighted", "nothing ignored", "smooth", "focal", "sigmoid focal"],
    )
    @pytest.mark.parametrize("label", [-1, 4, 255])
    @pytest.mark.parametrize("rows", [2, 5000])
    def test_a_label_outside_the_classes_is_an_error(self, loss, allowed, label, rows):
        y = torch.zeros(rows, 2, dtype=torch.long)
        y[0, 0], y[1, 1] = -100 if loss.ignore_index else 0, label
        message = f"{type(loss).__name__}: expected target with class indices in {allowed}; got {label} at [1, 1]"
        for call in (loss, lambda x, y: loss(x, y, reduction_override="none")):
            with pytest.raises(InputError) as caught:
                call(torch.zeros(rows, 3, 2), y)
            assert str(caught.value).startswith(message)
        assert (f"set ignore_index={label}" in str(caught.value)) == (loss.ignore_index is not None)

    @pytest.mark.parametrize("cls", [BinaryCrossEntropyLoss, BinaryFocalLoss, MultiLabelFocalLoss, AsymmetricLoss])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.long])
    def test_a_mask_value_outside_zero_and_one_is_an_error(self, cls, dtype):
        x, t = torch.randn(4, 3), torch.randint(0, 2, (4, 3)).to(dtype)
        t[2, 1] = 255
        message = (
            rf"{cls.__name__}: expected target with numbers in \[0, 1\] or ignore_index=-100; got 255(.0)? at \[2, 1\]"
        )
        with pytest.raises(InputError, match=message + r".*set ignore_index=255"):
            cls()(x, t)
        ignored = t.float().where(t != 255, -100)
        torch.testing.assert_close(cls()(x, t, ignore_index=255), cls()(x, ignored))

    def test_a_target_that_cannot_hold_ignore_index_ignores_nothing(self):
        x = torch.randn(3, device="meta")  # not looked at: torch would compare 156 in uint8 with -100 as equal
        value = losses_cls.functional.binary_cross_entropy(x, torch.zeros(3, dtype=torch.uint8, device="meta"))
        assert value.normalizer is None

    def test_probabilities_as_pred_are_checked(self):
        loss = BinaryCrossEntropyLoss(with_logits=False)
        p, t = torch.tensor([0.5, 2.0, 0.1]), torch.tensor([0.0, 1.0, -100.0])
        with pytest.raises(
            InputError, match=r"expected pred with numbers in \[0, 1\]; got 2.0 at \[1\].*with_logits=True"
        ):
            loss(p, t)
        p[1] = 1.0
        for wrong in (3.0, float("nan"), -torch.inf):
            p[2] = wrong  # it is ignored
            assert loss(p, t).isfinite()
        p[0] = torch.nan  # a NaN is no fault of the caller, and shows
        assert loss(p, t).isnan()

    def test_ignore_index_with_probabilities_is_an_error(self):
        x, q = torch.randn(4, 3), torch.rand(4, 3).softmax(1)
        for loss in (CrossEntropyLoss(ignore_index=255), LabelSmoothLoss(ignore_index=2)):
            with pytest.raises(InputError, match=r"ignore_index=\d+ has no meaning for a target of probabilities"):
                loss(x, q)
        torch.testing.assert_close(CrossEntropyLoss()(x, q, ignore_index=None), SoftCrossEntropyLoss()(x, q))

    def test_logits_as_probabilities_are_an_error(self):
        for loss in (SoftCrossEntropyLoss(), CrossEntropyLoss()):
            with pytest.raises(InputError, match=r"target with numbers in \[0, 1\].*apply softmax"):
                loss(torch.randn(4, 3), 3 * torch.randn(4, 3))

    def test_a_pred_without_a_class_axis_is_an_error(self):
        for loss in (
            CrossEntropyLoss(),
            SoftCrossEntropyLoss(),
            LabelSmoothLoss(),
            FocalLoss(),
            FocalLoss(use_sigmoid=True),
        ):
            for pred in (torch.zeros(()), torch.zeros(3)):
                target = pred if isinstance(loss, SoftCrossEntropyLoss) else pred.long()
                with pytest.raises(InputError, match=r"expected pred of shape \(N, C, \*S\)"):
                    loss(pred, target)

    def test_one_class(self):
        x, y = torch.randn(4, 1, requires_grad=True), torch.zeros(4, dtype=torch.long)
        for loss in (CrossEntropyLoss(), LabelSmoothLoss(), FocalLoss(), FocalLoss(gamma=0.5)):
            for reduction in ("mean", "none"):
                value = loss(x, y, reduction_override=reduction)
                assert not value.any()
                assert not torch.autograd.grad(value.sum(), x)[0].any()

    def test_dense_sigmoid_focal_with_labels(self):
        x, y = torch.randn(2, 3, 4, 5, requires_grad=True), torch.randint(0, 4, (2, 4, 5))
        y[0, 1] = -100
        rows, labels = x.movedim(1, -1).reshape(-1, 3), y.reshape(-1)
        loss = FocalLoss(use_sigmoid=True, class_weight=[1.0, 2.0, 3.0])
        same(loss(x, y), loss(rows, labels), x)
        dense = loss(x, y, reduction_override="none")
        same(dense.movedim(1, -1).reshape(-1, 3), loss(rows, labels, reduction_override="none"), x)

    def test_class_weights_are_not_rounded_to_half_precision(self):
        x, y = torch.randn(4, 3).bfloat16(), torch.tensor([0, 1, 2, 2])
        loss = CrossEntropyLoss([0.701, 1.303, 0.999])
        torch.testing.assert_close(loss(x, y), loss(x.float(), y))

    def test_a_masked_class_contributes_nothing(self):
        x = torch.tensor([[1.0, 2.0, -torch.inf]], requires_grad=True)
        value = SoftCrossEntropyLoss()(x, torch.tensor([[0.5, 0.5, 0.0]]))
        assert value.isfinite()
        assert torch.autograd.grad(value, x)[0].isfinite().all()

    def test_background_and_one_hot_agree(self):
        x, y = torch.randn(5, 3, requires_grad=True), torch.tensor([0, 3, 2, -100, 3])
        one_hot = F.one_hot(y.clamp(0, 3), 4)[:, :3].float()
        one_hot[4] = 0
        one_hot[3] = -100
        loss = FocalLoss(use_sigmoid=True, class_weight=[1.0, 2.0, 3.0])
        same(loss(x, y), loss(x, one_hot), x)

    def test_integer_and_bool_targets(self):
        x, y = torch.randn(4, 3), torch.randint(0, 2, (4, 3))
        for cls in (BinaryCrossEntropyLoss, BinaryFocalLoss, MultiLabelFocalLoss, AsymmetricLoss):
            for dtype in (torch.bool, torch.uint8, torch.long):
                torch.testing.assert_close(cls()(x, y.to(dtype)), cls()(x, y.float()))

    def test_one_class_with_sigmoid_warns_once(self, monkeypatch):
        monkeypatch.setattr(warn, "_said", set())
        loss, x, y = FocalLoss(use_sigmoid=True), torch.randn(4, 1), torch.tensor([0, 1, 0, 0])
        with pytest.warns(UserWarning, match="use BinaryFocalLoss"):
            loss(x, y)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            torch.testing.assert_close(loss(x, y), BinaryFocalLoss()(x, 1 - y))
        compiled = torch.compile(loss, fullgraph=True, backend="eager")  # a warning would break the graph
        torch.testing.assert_close(compiled(x, y), BinaryFocalLoss()(x, 1 - y))

    def test_num_classes_is_checked_and_not_frozen(self):
        loss = LabelSmoothLoss()
        y = torch.zeros(2, dtype=torch.long)
        torch.testing.assert_close(loss(torch.zeros(2, 3), y), torch.tensor(3.0).log())
        torch.testing.assert_close(loss(torch.zeros(2, 5), y), torch.tensor(5.0).log())
        with pytest.raises(InputError, match=r"expected pred with num_classes=3 on axis 1; got \(2, 5\)"):
            LabelSmoothLoss(num_classes=3)(torch.zeros(2, 5), y)


class TestAsymmetric:
    @pytest.mark.parametrize("frozen", [True, False])
    @pytest.mark.parametrize("clip", [0.0, 0.05])
    def test_both_classes_agree_and_equal_the_published_form(self, frozen, clip):
        x = (torch.rand(20, 30, dtype=torch.float64) * 34 - 17).requires_grad_()
        y = torch.randint(0, 2, (20, 30)).double()
        p = x.sigmoid()
        rest = (1 - p + clip).clamp(max=1)
        focus = (1 - p * y - rest * (1 - y)).pow(1 * y + 4 * (1 - y))
        focus = focus.detach() if frozen else focus
        published = -((y * p.log() + (1 - y) * rest.log()) * focus)
        for cls in (AsymmetricLoss, AsymmetricLossOptimized):
            loss = cls(clip=clip, disable_torch_grad_focal=frozen, reduction="none")
            value = loss(x, y)
            torch.testing.assert_close(value, published)
            got, want = (torch.autograd.grad(v.sum(), x, retain_graph=True)[0] for v in (value, published))
            torch.testing.assert_close(got, want)

    def test_the_optimized_class_is_the_plain_one(self):
        assert AsymmetricLossOptimized.function is AsymmetricLoss.function

    def test_the_hardest_positive_keeps_its_gradient(self):
        for cls in (AsymmetricLoss, AsymmetricLossOptimized):
            x = torch.tensor([-60.0], requires_grad=True)
            assert torch.autograd.grad(cls()(x, torch.ones(1)), x)[0] == -1

    def test_it_leaves_grad_mode_alone(self):
        with torch.no_grad():
            AsymmetricLoss()(torch.zeros(2), torch.ones(2))
            assert not torch.is_grad_enabled()


class TestErrors:
    @pytest.mark.parametrize(
        ("loss", "pred", "target", "text"),
        [
            (
                CrossEntropyLoss(),
                torch.zeros(2, 3, 4),
                torch.zeros(2, 5).long(),
                "CrossEntropyLoss: expected target of shape (2, 4) or (2, 3, 4) for pred (2, 3, 4); got (2, 5).",
            ),
            (
                CrossEntropyLoss(),
                torch.zeros(2, 3),
                torch.zeros(2),
                "CrossEntropyLoss: expected target with class indices (an integer dtype such as torch.long); "
                "got torch.float32.",
            ),
            (
                CrossEntropyLoss(),
                torch.zeros(3),
                torch.zeros(3).long(),
                "CrossEntropyLoss: expected pred of shape (N, C, *S); got (3,).",
            ),
            (
                CrossEntropyLoss([1.0, 2.0]),
                torch.zeros(2, 3),
                torch.zeros(2).long(),
                "CrossEntropyLoss: class_weight: expected 3 entries, one per class of pred (2, 3); got 2.",
            ),
            (
                FocalLoss(),
                torch.zeros(2, 3),
                torch.zeros(2, 3),
                "FocalLoss: expected target with class indices of shape (2,) for pred (2, 3); got (2, 3). "
                "One-hot targets need use_sigmoid=True.",
            ),
            (
                FocalLoss(use_sigmoid=True),
                torch.zeros(2, 3),
                torch.zeros(3).long(),
                "FocalLoss: expected target of shape (2,) or (2, 3) for pred (2, 3); got (3,).",
            ),
            (
                BinaryCrossEntropyLoss(),
                torch.zeros(2, 3),
                torch.zeros(2).long(),
                "BinaryCrossEntropyLoss: expected target of the shape of pred (2, 3), elementwise; "
                "got (2,) torch.int64. Class indices go to CrossEntropyLoss or FocalLoss; here one-hot encode them.",
            ),
            (
                AsymmetricLoss(),
                torch.zeros(2, 3),
                torch.zeros(2, 1),
                "AsymmetricLoss: expected target of the shape of pred (2, 3), elementwise; got (2, 1) torch.float32.",
            ),
            (
                SoftCrossEntropyLoss(),
                torch.zeros(2, 3),
                torch.zeros(2).long(),
                "SoftCrossEntropyLoss: expected target of the shape of pred (2, 3); got (2,).",
            ),
            (
                BinaryFocalLoss(),
                torch.zeros(2, 3),
                [0, 1],
                "BinaryFocalLoss: expected target as a tensor; got list.",
            ),
        ],
    )
    def test_texts(self, loss, pred, target, text):
        with pytest.raises(InputError) as caught:
            loss(pred, target)
        assert str(caught.value) == text

    @pytest.mark.parametrize(
        ("cls", "options", "text"),
        [
            (FocalLoss, {"gamma": -1}, "gamma: expected a number >= 0; got -1"),
            (FocalLoss, {"gamma": "2"}, "gamma: expected a number >= 0; got '2' (str)"),
            (FocalLoss, {"use_sigmoid": "yes"}, "use_sigmoid: expected True or False"),
            (BinaryFocalLoss, {"alpha": 1.5}, "alpha: expected a number <= 1; got 1.5"),
            (LabelSmoothLoss, {"smoothing": 1.0}, "smoothing: expected a number >= 0 and < 1; got 1.0"),
            (LabelSmoothLoss, {"num_classes": 2.5}, "num_classes: expected an integer >= 1; got 2.5"),
            (CrossEntropyLoss, {"label_smoothing": 1.1}, "label_smoothing: expected a number >= 0 and <= 1"),
            (CrossEntropyLoss, {"ignore_index": 1.0}, "ignore_index: expected an integer; got 1.0"),
            (AsymmetricLoss, {"clip": 1}, "clip: expected a number >= 0 and < 1; got 1"),
            (SoftCrossEntropyLoss, {"ignore_index": 255}, "SoftCrossEntropyLoss has no parameter 'ignore_index'"),
        ],
    )
    def test_options(self, cls, options, text):
        with pytest.raises((ValueError, TypeError)) as caught:
            cls(**options)
        assert text in str(caught.value)


class TestDocumentedConfigs:
    @pytest.mark.parametrize(
        "config",
        [
            {"type": "CrossEntropyLoss", "loss_weight": 1.0, "label_smoothing": 0.1, "class_weight": [1.0, 2.0, 1.5]},
            {"type": "FocalLoss", "alpha": 0.25, "gamma": 2.0, "loss_weight": 1.0},
            [{"type": "CrossEntropyLoss", "weight": 1.0}, {"type": "LabelSmoothLoss", "weight": 0.5}],
        ],
    )
    def test_they_run(self, config):
        x = torch.randn(4, 3, requires_grad=True)
        build_loss(config)(x, torch.tensor([0, 1, 2, 0])).backward()
        assert x.grad.isfinite().all()


class TestFunctional:
    def test_alone_they_are_right_in_half_precision_and_with_ignored_labels(self):
        from losses_cls import functional

        x = torch.randn(4, 3, dtype=torch.float16, requires_grad=True)
        with torch.no_grad():
            x[1] = float("nan")
        y = torch.tensor([0, -100, 2, 1])
        for function in (functional.cross_entropy, functional.softmax_focal_loss, functional.label_smooth_loss):
            value, normalizer, _ = function(x, y)
            assert normalizer.tolist() == [True, False, True, True]
            assert value.dtype == torch.float32
            assert value[1] == 0
            assert torch.autograd.grad(value.sum(), x)[0].isfinite().all()
        with pytest.raises(InputError, match="cross_entropy: expected target of shape"):
            functional.cross_entropy(x, y[:2])

    def test_bad_input(self):
        from losses_cls import functional

        x, y, t, two = torch.zeros(2, 3), torch.zeros(2).long(), torch.zeros(2, 3), torch.ones(2)
        for call, text in (
            (lambda: functional.cross_entropy(x.long(), y), "cross_entropy: expected a floating pred"),
            (lambda: functional.cross_entropy(x, y, class_weight=two), "class_weight: expected 3 entries"),
            (lambda: functional.softmax_focal_loss(x, y, alpha=two), "alpha: expected 3 entries"),
            (lambda: functional.binary_focal_loss(x, t, alpha=two), "binary_focal_loss: alpha: expected 3 entries"),
            (lambda: functional.binary_cross_entropy(x, t, pos_weight=torch.ones(2, 3)), "pos_weight: expected 3"),
            (lambda: functional.index_focal_loss(x, t), "index_focal_loss: expected target with class indices"),
        ):
            with pytest.raises(InputError, match=text):
                call()

    def test_one_number_serves_all_classes(self):
        x, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 2])
        torch.testing.assert_close(CrossEntropyLoss(2.0)(x, y), CrossEntropyLoss()(x, y))
        torch.testing.assert_close(CrossEntropyLoss(2.0, reduction="sum")(x, y), CrossEntropyLoss([2.0] * 3)(x, y) * 8)

    def test_everything_is_exported(self):
        for name in losses_cls.__all__:
            assert getattr(losses_cls, name) is not None
        for name in losses_cls.functional.__all__:
            assert callable(getattr(losses_cls.functional, name))


@settings(deadline=None, max_examples=30)
@given(
    st.integers(1, 4), st.integers(1, 5), st.lists(st.integers(1, 3), max_size=2), st.integers(0, 2**31), st.booleans()
)
def test_a_mean_over_any_shape_is_the_mean_over_its_valid_labels(n, classes, spatial, seed, weighted):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, classes, *spatial, generator=generator, dtype=torch.float64)
    y = torch.randint(0, classes, (n, *spatial), generator=generator)
    y[torch.rand(y.shape, generator=generator) < 0.3] = -100
    weight = torch.rand(classes, generator=generator, dtype=torch.float64) + 0.1 if weighted else None
    flat_x, flat_y = x.movedim(1, -1).reshape(-1, classes), y.reshape(-1)
    valid = flat_y != -100
    for cls in (CrossEntropyLoss, LabelSmoothLoss, FocalLoss):
        loss = cls(class_weight=weight)
        torch.testing.assert_close(loss(x, y), loss(flat_x[valid], flat_y[valid]))
