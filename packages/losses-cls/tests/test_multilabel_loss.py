"""Losses that compare positives with negatives: equalities, sets without one side, and several ranks."""

import pytest
import torch

from losses_cls import BinaryCrossEntropyLoss, TwoWayLoss, ZLPRLoss
from losses_cls.functional import two_way_loss
from losses_core import ConfigError, InputError, _blocks, explain


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def gradient(loss, x, y):
    value = loss(x, y)
    return value, torch.autograd.grad(value.sum(), x)[0]


class TestZLPR:
    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    def test_one_class_is_binary_cross_entropy(self, reduction):
        x, y = torch.randn(6, 1, 4, dtype=torch.float64, requires_grad=True), torch.randint(0, 2, (6, 1, 4))
        y[0, 0, 0] = -100
        value, grad = gradient(ZLPRLoss(reduction=reduction), x, y)
        expected, wanted = gradient(BinaryCrossEntropyLoss(reduction=reduction), x, y)
        torch.testing.assert_close(value.reshape(expected.shape), expected)
        torch.testing.assert_close(grad, wanted)

    def test_a_side_without_elements_has_no_term(self):
        x = torch.randn(2, 5, dtype=torch.float64)
        value = ZLPRLoss(reduction="none")(x, torch.tensor([[0] * 5, [1] * 5]))
        expected = torch.stack([1 + x[0].exp().sum(), 1 + (-x[1]).exp().sum()]).log()
        torch.testing.assert_close(value, expected)

    def test_the_mean_is_over_rows_with_a_valid_element(self):
        x, y = torch.randn(4, 3, requires_grad=True), torch.randint(0, 2, (4, 3))
        y[1], y[2, 0] = -100, -100
        loss = ZLPRLoss()
        each = loss(x, y, reduction_override="none")
        assert each[1] == 0
        torch.testing.assert_close(loss(x, y), each.sum() / 3)
        torch.testing.assert_close(each[2], ZLPRLoss()(x[2:3, 1:], y[2:3, 1:]))

    def test_zero_is_the_threshold(self):
        x = torch.zeros(1, 4, requires_grad=True)
        for y, sign in ((torch.zeros(1, 4), 1), (torch.ones(1, 4), -1)):
            assert (gradient(ZLPRLoss(), x, y)[1].sign() == sign).all()

    @pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
    def test_extremes(self, dtype):
        x = torch.tensor([[6e4, 5e4, -6e4], [-6e4, 6e4, 0.0]], dtype=dtype, requires_grad=True)
        for y in torch.tensor([[[1, 0, 0], [1, 0, 0]], [[0, 0, 1], [1, 1, 1]], [[1, 1, 0], [0, 1, 0]]]):
            value, grad = gradient(ZLPRLoss(), x, y)
            expected, wanted = gradient(ZLPRLoss(), x.detach().double().requires_grad_(), y)
            torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-6)
            torch.testing.assert_close(grad, wanted.to(dtype))

    def test_a_small_loss_is_precise(self):
        x, y = torch.tensor([[20.0, -20.0, -22.0]]), torch.tensor([[1, 0, 0]])
        torch.testing.assert_close(ZLPRLoss()(x, y).double(), ZLPRLoss()(x.double(), y), rtol=1e-5, atol=0)

    def test_targets(self):
        x, y = torch.randn(4, 3), torch.randint(0, 2, (4, 3))
        for target in (y.bool(), y.to(torch.uint8), y * 0.9 + 0.05):
            torch.testing.assert_close(ZLPRLoss()(x, target), ZLPRLoss()(x, y))

    def test_the_kernel_runs(self):
        assert "zlpr_kernel" in explain(ZLPRLoss(), torch.randn(2, 3, requires_grad=True), torch.ones(2, 3))


class TestTwoWay:
    def test_a_set_without_a_negative_counts_with_zero_and_one_without_a_positive_not_at_all(self):
        x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
        full, empty = torch.ones(3, 2), torch.zeros(3, 2)
        for y in (full, empty):
            value, grad = gradient(TwoWayLoss(), x, y)
            assert value == 0
            assert not grad.any()
        y = torch.tensor([[1, 0], [1, 1], [0, 0]])  # a mixed sample, a full one, an empty one; both classes mixed
        h = torch.nn.functional.softplus(x[0, 1] - x[0, 0])  # of one logit each, the temperatures cancel
        two = TwoWayLoss(reduction="sum")(x, y)
        columns = TwoWayLoss(reduction="sum")(x, y) - h
        torch.testing.assert_close(TwoWayLoss()(x, y), h / 2 + columns / 2)
        assert two > h

    def test_positions_are_samples(self):
        x, y = torch.randn(2, 3, 4, 5, dtype=torch.float64), torch.randint(0, 2, (2, 3, 4, 5))
        y[0, 0] = -100
        flat_x, flat_y = (t.movedim(1, -1).reshape(-1, 3) for t in (x, y))
        torch.testing.assert_close(TwoWayLoss()(x, y), TwoWayLoss()(flat_x, flat_y))

    def test_logits_below_the_fill_of_others(self):
        """timm fills masked entries with -1e4, which a negative logit of -2e4 is below."""
        x = torch.tensor([[-3e4, -2e4], [-2e4, -3e4]], requires_grad=True)
        value, grad = gradient(TwoWayLoss(), x, torch.eye(2))
        torch.testing.assert_close(value, torch.tensor(2e4))
        torch.testing.assert_close(grad, torch.tensor([[-1.0, 1.0], [1.0, -1.0]]))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
    def test_extremes(self, dtype):
        x = torch.tensor([[6e4, -6e4, 0.0], [-6e4, 6e4, 0.0]], dtype=dtype, requires_grad=True)
        for y in torch.tensor([[[1, 0, 0], [0, 1, 1]], [[0, 1, 0], [1, 0, 1]], [[1, 1, 0], [1, 0, 0]]]):
            value, grad = gradient(TwoWayLoss(), x, y)
            expected, wanted = gradient(TwoWayLoss(), x.detach().double().requires_grad_(), y)
            torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-6)
            torch.testing.assert_close(grad, wanted.to(dtype))

    @pytest.mark.parametrize("block", [1, 8, 64])
    @pytest.mark.parametrize("reduction", ["mean", "sum"])
    def test_blocks(self, monkeypatch, block, reduction):
        """Classes of which one side occurs in some blocks only, and whose largest logit comes late."""
        x = torch.randn(12, 5, 3, dtype=torch.float64).cumsum(0).requires_grad_()
        y = (torch.rand(12, 5, 3) < 0.15).double()
        y[torch.rand(y.shape) < 0.2] = -100
        expected = gradient(lambda *pair: two_way_loss(*pair, reduction=reduction), x, y)
        monkeypatch.setattr(_blocks, "CPU_BLOCK", block)
        torch.testing.assert_close(gradient(TwoWayLoss(reduction=reduction), x, y), expected)

    def test_it_is_one_number_for_the_batch(self):
        x, y = torch.randn(4, 3, requires_grad=True), torch.randint(0, 2, (4, 3))
        assert "two_way_kernel" in explain(TwoWayLoss(), x, y)
        for call, text in (
            ({"weight": torch.ones(4)}, "TwoWayLoss: weight: the loss is one number for the batch"),
            ({"avg_factor": 2}, "TwoWayLoss: avg_factor: the loss is one number"),
            ({"reduction_override": "none"}, "reduction: expected one of 'mean', 'sum'; got 'none'"),
        ):
            with pytest.raises(InputError, match=text):
                TwoWayLoss()(x, y, **call)
        for options in ({"avg_factor": 2.0}, {"reduction": "none"}, {"temperature_pos": 0}, {"temperature_neg": -1}):
            with pytest.raises(ConfigError, match=next(iter(options))):
                TwoWayLoss(**options)
        with pytest.raises(InputError, match="temperature_pos: expected a number > 0"):
            two_way_loss(x, y, temperature_pos=0)


def test_errors():
    x = torch.zeros(2, 3)
    for cls in (ZLPRLoss, TwoWayLoss):
        with pytest.raises(
            InputError, match=f"{cls.__name__}: expected target of the shape of pred .* Class indices go"
        ):
            cls()(x, torch.zeros(2).long())
        with pytest.raises(InputError, match=r"expected pred of shape \(N, C, \*S\); got \(3,\)"):
            cls()(x[0], x[0])
        with pytest.raises(InputError, match=r"numbers in \[0, 1\]"):
            cls()(x, x + 2)
        with pytest.raises(TypeError, match="has no parameter 'class_weight'"):
            cls(class_weight=[1.0, 2.0])
