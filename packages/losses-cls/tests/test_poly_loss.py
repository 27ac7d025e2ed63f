"""Poly-1 losses: what they are equal to, and where they differ from other implementations."""

import pytest
import torch
import torch.nn.functional as F

from losses_cls import (
    BinaryCrossEntropyLoss,
    BinaryFocalLoss,
    CrossEntropyLoss,
    PolyCrossEntropyLoss,
    PolyFocalLoss,
)
from losses_core import ConfigError, InputError, explain


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def gradient(loss, x, target, **call):
    value = loss(x, target, **call)
    return value, torch.autograd.grad(value.sum(), x)[0]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("options", [{}, {"class_weight": [0.5, 1.0, 3.0]}, {"label_smoothing": 0.1}], ids=str)
def test_without_epsilon_it_is_the_cross_entropy(options, reduction):
    x, y = torch.randn(4, 3, 5, dtype=torch.float64, requires_grad=True), torch.randint(3, (4, 5))
    y[0, 0] = -100
    for target in (y, torch.rand(4, 3, 5, dtype=torch.float64)):
        ours = gradient(PolyCrossEntropyLoss(0.0, **options, reduction=reduction), x, target)
        torch.testing.assert_close(ours, gradient(CrossEntropyLoss(**options, reduction=reduction), x, target))


def test_a_label_adds_epsilon_times_one_minus_its_probability():
    x, y = torch.randn(6, 4, dtype=torch.float64), torch.randint(4, (6,))
    p = x.softmax(1).gather(1, y[:, None]).squeeze(1)
    for epsilon in (-1.5, 1.0, 6.0):
        loss = PolyCrossEntropyLoss(epsilon, reduction="none")
        torch.testing.assert_close(loss(x, y), F.cross_entropy(x, y, reduction="none") + epsilon * (1 - p))


def test_the_smoothed_target_is_in_both_terms():
    x, y = torch.randn(6, 4, dtype=torch.float64), torch.randint(4, (6,))
    q = F.one_hot(y, 4) * 0.8 + 0.2 / 4
    labels = PolyCrossEntropyLoss(2.0, label_smoothing=0.2)(x, y)
    torch.testing.assert_close(labels, PolyCrossEntropyLoss(2.0)(x, q))
    torch.testing.assert_close(labels, (F.cross_entropy(x, q) + 2 * (1 - (q * x.softmax(1)).sum(1)).mean()))


def test_it_is_negative_below_minus_one():
    x = torch.tensor([[3.0, 0.0]])
    assert PolyCrossEntropyLoss(-2.0)(x, torch.tensor([0])) < 0
    assert PolyCrossEntropyLoss(-1.0)(x, torch.tensor([0])) > 0


def test_a_masked_class_contributes_nothing():
    x = torch.tensor([[1.0, 2.0, -torch.inf]], requires_grad=True)
    value, grad = gradient(PolyCrossEntropyLoss(), x, torch.tensor([[0.5, 0.5, 0.0]]))
    assert value.isfinite()
    assert grad.isfinite().all()


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_without_epsilon_the_focal_form_is_the_focal_loss(reduction):
    x, y = torch.randn(5, 4, dtype=torch.float64, requires_grad=True), torch.randint(0, 2, (5, 4))
    for options in ({}, {"alpha": None, "gamma": 0.5}, {"alpha": -1, "gamma": 0.0}):
        ours = gradient(PolyFocalLoss(0.0, **options, reduction=reduction), x, y)
        torch.testing.assert_close(ours, gradient(BinaryFocalLoss(**options, reduction=reduction), x, y))


def test_without_focusing_it_is_the_binary_cross_entropy_plus_the_term():
    x, y = torch.randn(5, 4, dtype=torch.float64), torch.rand(5, 4, dtype=torch.float64)
    p = x.sigmoid()
    value = PolyFocalLoss(1.5, alpha=None, gamma=0.0, reduction="none")(x, y)
    expected = BinaryCrossEntropyLoss(reduction="none")(x, y) + 1.5 * (y * (1 - p) + (1 - y) * p)
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0])
def test_the_gradient_is_finite_at_saturation(gamma):
    for dtype in (torch.float16, torch.float32):
        x = torch.tensor([6e4, -6e4, 30.0, -30.0], dtype=dtype, requires_grad=True)
        for y in (torch.tensor([1, 0, 1, 0]), torch.tensor([0, 1, 0, 1])):
            value, grad = gradient(PolyFocalLoss(gamma=gamma), x, y)
            assert value.isfinite()
            assert grad.isfinite().all()


def test_targets_of_the_focal_form():
    x, y = torch.randn(4, 1), torch.tensor([0, 1, 1, 0])
    loss = PolyFocalLoss()
    for dtype in (torch.bool, torch.uint8, torch.long):
        torch.testing.assert_close(loss(x, y.to(dtype)), loss(x, y[:, None].float()))


def test_kernels_run():
    x, y = torch.randn(4, 3, requires_grad=True), torch.tensor([0, 1, 2, 0])
    assert "poly_cross_entropy_of_labels" in explain(PolyCrossEntropyLoss(), x, y)
    assert "poly_cross_entropy_of_probabilities" in explain(PolyCrossEntropyLoss(), x, x.detach().softmax(1))
    assert "sigmoid_focal_kernel" in explain(PolyFocalLoss(), x, torch.ones(4, 3))


def test_errors():
    x, y = torch.zeros(2, 3), torch.zeros(2).long()
    for cls in (PolyCrossEntropyLoss, PolyFocalLoss):
        with pytest.raises(ConfigError, match=f"{cls.__name__}: epsilon: expected a number; got inf"):
            cls(epsilon=float("inf"))
    with pytest.raises(ConfigError, match="gamma: expected a number >= 0; got -1"):
        PolyFocalLoss(gamma=-1)
    with pytest.raises(InputError, match=r"PolyFocalLoss: expected target of the shape of pred .* Class indices go to"):
        PolyFocalLoss()(x, y)
    with pytest.raises(InputError, match="ignore_index=255 has no meaning for a target of probabilities"):
        PolyCrossEntropyLoss(ignore_index=255)(x, x.softmax(1))
    with pytest.raises(InputError, match=r"expected target with class indices in \[0, 3\)"):
        PolyCrossEntropyLoss()(x, y + 3)
