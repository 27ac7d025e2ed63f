"""Losses that compare positives with negatives: equalities, sets without one side, and several ranks."""

import pytest
import torch

from losses_cls import BinaryCrossEntropyLoss, ZLPRLoss
from losses_core import InputError, explain


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


def test_errors():
    x = torch.zeros(2, 3)
    for cls in (ZLPRLoss,):
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
