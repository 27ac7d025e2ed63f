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
from losses_cls.focal_loss import softmax as softmax_module
from losses_core import InputError, build_loss


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

    @pytest.mark.parametrize("label", [-1, 3])
    def test_a_label_out_of_range_is_never_clamped(self, label):
        for loss in (CrossEntropyLoss(), FocalLoss(), LabelSmoothLoss(), CrossEntropyLoss([1.0, 1.0, 1.0])):
            with pytest.raises((RuntimeError, IndexError)):
                loss(torch.randn(2, 3), torch.tensor([0, label]))

    def test_a_masked_class_costs_nothing(self):
        x = torch.tensor([[1.0, 2.0, -torch.inf]], requires_grad=True)
        value = SoftCrossEntropyLoss()(x, torch.tensor([[0.5, 0.5, 0.0]]))
        assert value.isfinite()
        assert torch.autograd.grad(value, x)[0].isfinite().all()

    def test_background_and_one_hot_agree(self):
        x, y = torch.randn(5, 3, requires_grad=True), torch.tensor([0, 3, 2, -100, 7])
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

    def test_one_class_with_sigmoid_warns_once(self):
        softmax_module._warn_one_class.cache_clear()
        loss, x, y = FocalLoss(use_sigmoid=True), torch.randn(4, 1), torch.tensor([0, 1, 0, 0])
        with pytest.warns(UserWarning, match="use BinaryFocalLoss"):
            loss(x, y)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            torch.testing.assert_close(loss(x, y), BinaryFocalLoss()(x, 1 - y))

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
                torch.zeros(2, 3, 4),
                torch.zeros(2, 4).long(),
                "FocalLoss: expected pred of shape (N, C) with use_sigmoid=True; got (2, 3, 4).",
            ),
            (
                FocalLoss(use_sigmoid=True),
                torch.zeros(2, 3),
                torch.zeros(3).long(),
                "FocalLoss: expected target of shape (2,) for pred (2, 3); got (3,).",
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
            value = function(x, y)
            assert value.dtype == torch.float32
            assert value[1] == 0
            assert torch.autograd.grad(value.sum(), x)[0].isfinite().all()
        with pytest.raises(InputError, match="cross_entropy: expected target of shape"):
            functional.cross_entropy(x, y[:2])

    def test_everything_is_exported(self):
        for name in losses_cls.__all__:
            assert getattr(losses_cls, name) is not None
        for name in losses_cls.functional.__all__:
            assert callable(getattr(losses_cls.functional, name))


@settings(deadline=None, max_examples=30)
@given(
    st.integers(1, 4), st.integers(1, 5), st.lists(st.integers(1, 3), max_size=2), st.integers(0, 2**31), st.booleans()
)
def test_a_mean_over_any_shape_is_the_mean_over_its_counted_places(n, classes, spatial, seed, weighted):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, classes, *spatial, generator=generator, dtype=torch.float64)
    y = torch.randint(0, classes, (n, *spatial), generator=generator)
    y[torch.rand(y.shape, generator=generator) < 0.3] = -100
    weight = torch.rand(classes, generator=generator, dtype=torch.float64) + 0.1 if weighted else None
    flat_x, flat_y = x.movedim(1, -1).reshape(-1, classes), y.reshape(-1)
    kept = flat_y != -100
    for cls in (CrossEntropyLoss, LabelSmoothLoss, FocalLoss):
        loss = cls(class_weight=weight)
        torch.testing.assert_close(loss(x, y), loss(flat_x[kept], flat_y[kept]))
