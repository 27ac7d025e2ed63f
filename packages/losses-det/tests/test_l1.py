"""What detection.md promises of the losses of coordinates."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from losses_core import ConfigError, InputError
from losses_det import BalancedL1Loss, L1Loss, SmoothL1Loss
from losses_det.functional import balanced_l1_loss, smooth_l1_loss

BETAS = [0.11, 0.5, 1.0, 2.0]


def slope(loss, x):
    x = torch.as_tensor(x, dtype=torch.float64).requires_grad_()
    return torch.autograd.grad(loss(x, torch.zeros_like(x)).sum(), x)[0]


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("beta", [0.0, *BETAS])
def test_equals_torch(beta, reduction):
    pred = (torch.randn(50, 4, dtype=torch.float64) * 2).requires_grad_()
    target = torch.randn(50, 4, dtype=torch.float64, requires_grad=True)
    expected = F.smooth_l1_loss(pred, target, beta=beta, reduction=reduction)
    value = SmoothL1Loss(beta=beta, reduction=reduction)(pred, target)
    pairs = [(value, expected)]
    if beta == 0:
        pairs.append((L1Loss(reduction=reduction)(pred, target), expected))
    for got, want in pairs:
        torch.testing.assert_close(got, want)
        gradients = [torch.autograd.grad(v.sum(), (pred, target), retain_graph=True) for v in (got, want)]
        torch.testing.assert_close(*gradients)


def test_smooth_l1_by_hand():
    value = smooth_l1_loss(torch.tensor([0.5, -0.5, 1.0, -3.0]), torch.zeros(4), beta=2.0)
    torch.testing.assert_close(value, torch.tensor([0.0625, 0.0625, 0.25, 2.0]))


@pytest.mark.parametrize("beta", BETAS)
def test_balanced_l1_is_smooth_at_beta(beta):
    loss = BalancedL1Loss(beta=beta, reduction="none")
    around = torch.tensor([beta * (1 - 1e-9), beta * (1 + 1e-9)], dtype=torch.float64)
    value = loss(around, torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(value[0], value[1], rtol=1e-7, atol=0)
    torch.testing.assert_close(slope(loss, around), torch.full((2,), 1.5, dtype=torch.float64), rtol=1e-7, atol=0)
    torch.testing.assert_close(slope(loss, -around), torch.full((2,), -1.5, dtype=torch.float64), rtol=1e-7, atol=0)


@pytest.mark.parametrize("beta", BETAS)
def test_balanced_l1_gradient(beta):
    """0 at 0, growing without a jump to gamma, constant beyond; and the derivative of the value all along."""
    loss = BalancedL1Loss(beta=beta, reduction="none")
    x = torch.linspace(0, 3 * beta, 3001, dtype=torch.float64)
    gradient = slope(loss, x)
    assert gradient[0] == 0
    assert (gradient.diff() >= 0).all()
    assert gradient.diff().max() < 0.03
    assert (gradient[x >= beta] - 1.5).abs().max() < 1e-12
    value = loss(x, torch.zeros_like(x))
    numeric = value.diff() / x.diff()
    torch.testing.assert_close(numeric, (gradient[1:] + gradient[:-1]) / 2, rtol=0, atol=1e-4)


def test_balanced_l1_of_the_paper():
    """Equations 8 to 10 of the paper, which has beta = 1."""
    alpha, gamma = 0.5, 1.5
    b = math.exp(gamma / alpha) - 1
    for x in (0.0, 0.2, 0.9, 1.0, 5.0):
        near = alpha / b * (b * x + 1) * math.log(b * x + 1) - alpha * x
        wanted = near if x < 1 else gamma * x + gamma / b - alpha
        assert balanced_l1_loss(torch.tensor(x), torch.tensor(0.0)).item() == pytest.approx(wanted, abs=1e-6)
        assert slope(BalancedL1Loss(), x).item() == pytest.approx(min(alpha * math.log(b * x + 1), gamma), abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.1, 2), st.floats(0.1, 4), st.floats(0.01, 5), st.floats(-1e4, 1e4))
def test_balanced_l1_is_even_and_bounded(alpha, gamma, beta, x):
    loss = BalancedL1Loss(alpha=alpha, gamma=gamma, beta=beta)
    zero = torch.zeros((), dtype=torch.float64)
    at = torch.tensor(x, dtype=torch.float64)
    assert torch.equal(loss(at, zero), loss(-at, zero))
    assert -1e-12 <= loss(at, zero) <= (gamma * at.abs()) * (1 + 1e-9) + gamma * beta
    assert slope(loss, x).abs() <= gamma * (1 + 1e-9)


def test_gradient_in_the_target():
    pred, target = torch.randn(2, 3, 4, dtype=torch.float64).unbind()
    target.requires_grad_()
    for loss in (L1Loss(), SmoothL1Loss(0.5), BalancedL1Loss(beta=0.5)):
        (in_target,) = torch.autograd.grad(loss(pred, target), target)
        leaf = pred.clone().requires_grad_()
        (in_pred,) = torch.autograd.grad(loss(leaf, target.detach()), leaf)
        torch.testing.assert_close(in_target, -in_pred)


@pytest.mark.parametrize("loss", [L1Loss(), SmoothL1Loss(), BalancedL1Loss()], ids=str)
def test_weights_of_boxes_and_of_coordinates(loss):
    pred, target = torch.randn(2, 3, 4).unbind()
    plain = loss(pred, target, reduction_override="none")
    per_box, per_side = torch.tensor([1.0, 0.0, 2.0]), torch.rand(3, 4)
    torch.testing.assert_close(loss(pred, target, per_box, 5), (plain * per_box[:, None]).sum() / 5)
    torch.testing.assert_close(loss(pred, target, per_side, torch.tensor(5.0)), (plain * per_side).sum() / 5)
    assert loss(pred[:0], target[:0]) == 0


def test_options_are_checked():
    for loss in (SmoothL1Loss, BalancedL1Loss):
        with pytest.raises(ConfigError, match="beta: expected a number >"):
            loss(beta=-0.1)
    for name in ("alpha", "gamma", "beta"):
        with pytest.raises(ConfigError, match=f"{name}: expected a number > 0; got 0"):
            BalancedL1Loss(**{name: 0})
    with pytest.raises(ConfigError, match=r"gamma: expected at most 80 alpha = 0\.8; got 1\.5"):
        BalancedL1Loss(alpha=0.01)
    assert BalancedL1Loss(alpha=0.01, gamma=0.8)(torch.ones(1), torch.zeros(1)).isfinite()
    with pytest.raises(InputError, match="smooth_l1_loss: beta: expected a number >= 0; got -1"):
        smooth_l1_loss(torch.zeros(1), torch.zeros(1), beta=-1)
