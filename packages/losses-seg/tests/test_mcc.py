"""MCCLoss: constant masks, strong imbalance, large images."""

import math

import pytest
import torch

from losses_seg import MCCLoss
from losses_seg._region import Region
from losses_seg.mcc_loss import _correlation


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_it_is_the_correlation_of_masks():
    guess, y = torch.randint(2, (1, 1, 20, 30)), torch.randint(2, (1, 20, 30))
    expected = 1 - torch.corrcoef(torch.stack([guess.flatten(), y.flatten()]).double())[0, 1]
    torch.testing.assert_close(MCCLoss(activation="none")(guess.double(), y), expected)


def test_soft_counts_are_products():
    p, g = torch.rand(1, 1, 20, 30, dtype=torch.double), torch.rand(1, 1, 20, 30, dtype=torch.double)
    a, b, both = p.mean(), g.mean(), (p * g).mean()
    expected = 1 - (both - a * b) / (a * (1 - a) * b * (1 - b)).sqrt()
    torch.testing.assert_close(MCCLoss(activation="none")(p, g), expected)


def test_range():
    y = torch.randint(2, (2, 4, 5))
    sure = (2.0 * y - 1).unsqueeze(1)
    torch.testing.assert_close(MCCLoss()(1e4 * sure, y), torch.tensor(0.0))
    torch.testing.assert_close(MCCLoss()(-1e4 * sure, y), torch.tensor(2.0))


@pytest.mark.parametrize(
    ("pred", "truth", "expected"),
    [(0.0, 0, 0.0), (1.0, 1, 0.0), (1.0, 0, 1.0), (0.0, 1, 1.0), (0.3, 0, 1.0), (0.3, 1, 1.0)],
)
def test_constant_masks_follow_scikit_learn(pred, truth, expected):
    """An empty mask that is predicted empty has no loss; elsewhere it is 0.5, where a constant is added to counts."""
    p = torch.full((1, 1, 4, 4), pred, requires_grad=True)
    value = MCCLoss(activation="none", classes="all")(p, torch.full((1, 4, 4), truth))
    assert value == expected
    (gradient,) = torch.autograd.grad(value, p)
    assert not gradient.any()


def test_a_constant_prediction_gets_no_nan_beside_a_truth():
    p = torch.zeros(1, 1, 4, 4, requires_grad=True)
    value = MCCLoss(activation="none")(p, torch.eye(4)[None])
    assert value == 1
    assert torch.autograd.grad(value, p)[0].isfinite().all()


@pytest.mark.parametrize("exponent", [-30.0, -60.0, -87.0, -95.0, -103.0, -110.0])
def test_tiny_probabilities(exponent):
    """Their variance underflows before they do."""
    x = torch.full((1, 1, 8, 8), exponent, requires_grad=True)
    value = MCCLoss()(x + 3 * torch.eye(8), torch.eye(8)[None])
    (gradient,) = torch.autograd.grad(value, x)
    assert value.isfinite()
    assert gradient.isfinite().all()


def test_absent_classes_are_not_counted():
    x, y = torch.randn(2, 4, 5, 5), torch.stack([torch.full((5, 5), 1), torch.full((5, 5), 2)])
    y[:, 0] = 3
    each = MCCLoss(classes="all", reduction="none")(x, y)
    assert each[0, 0] == each[0, 2] == each[1, 1] == 1
    torch.testing.assert_close(MCCLoss()(x, y), each[[0, 0, 1, 1], [1, 3, 2, 3]].mean())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_of_a_large_image_equals_float32(dtype):
    """The product of four counts of 512² pixels is 10²¹."""
    x, y = torch.randn(1, 2, 512, 512).to(dtype).requires_grad_(), torch.randint(2, (1, 512, 512))
    value = MCCLoss()(x, y)
    torch.testing.assert_close(value.double(), MCCLoss()(x.double(), y), atol=1e-6, rtol=0)
    (gradient,) = torch.autograd.grad(value, x)
    assert gradient.isfinite().all()
    assert gradient.any()


def test_a_class_of_nearly_all_pixels():
    """Of counts in float32 that are exact, so is the result: 1 minus a share would be off by a percent."""
    n, right, missed, false = 10_000_000, 40, 20, 10
    counts = [n - right - missed - false, n - right - missed, n - right - false, n]  # of the complement
    sums = Region(*(torch.tensor([float(count)]) for count in counts))
    tp, tn, fp, fn = n - right - missed - false, right, missed, false
    expected = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert _correlation(sums).item() == pytest.approx(expected, rel=2e-6)
