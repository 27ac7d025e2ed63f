"""The asymmetric loss over class indices: its equalities, its extremes, and what it keeps."""

import pytest
import torch

from losses_cls import AsymmetricLossSingleLabel, CrossEntropyLoss, FocalLoss
from losses_core import ConfigError, InputError, explain


@pytest.fixture
def given():
    torch.manual_seed(0)
    x, y = 3 * torch.randn(6, 4, 5, dtype=torch.float64, requires_grad=True), torch.randint(4, (6, 5))
    y[0, 0] = -100
    return x.detach().requires_grad_(), y


def gradient(loss, x, y):
    value = loss(x, y)
    return value, torch.autograd.grad(value.sum(), x)[0]


@pytest.mark.parametrize("weights", [None, [1.0, 0.5, 2.0, 3.0]])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_equalities(given, weights, reduction):
    options = {"class_weight": weights, "reduction": reduction}
    for smoothing in (0.0, 0.2):
        ours = gradient(AsymmetricLossSingleLabel(0, 0, smoothing, **options), *given)
        torch.testing.assert_close(ours, gradient(CrossEntropyLoss(label_smoothing=smoothing, **options), *given))
    for gamma in (0.5, 2.0):
        ours = gradient(AsymmetricLossSingleLabel(gamma_pos=gamma, smoothing=0.0, **options), *given)
        torch.testing.assert_close(ours, gradient(FocalLoss(None, gamma, **options), *given))


def test_without_smoothing_the_other_classes_are_not_focused(given):
    first, second = (AsymmetricLossSingleLabel(gamma_neg=g, gamma_pos=1.0, smoothing=0.0)(*given) for g in (0, 4))
    assert torch.equal(first, second)
    first, second = (AsymmetricLossSingleLabel(gamma_neg=g, gamma_pos=1.0)(*given) for g in (0, 4))
    assert not torch.isclose(first, second)


@pytest.mark.parametrize("gamma", [0.3, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_gradient_is_finite_at_saturation(gamma, smoothing):
    loss = AsymmetricLossSingleLabel(gamma, gamma, smoothing)
    for dtype in (torch.float16, torch.float32):
        x = torch.tensor([[6e4, -6e4, 0.0], [40.0, 0.0, 0.0]], dtype=dtype, requires_grad=True)
        for label in range(3):
            value, grad = gradient(loss, x, torch.full((2,), label))
            assert value.isfinite()
            assert grad.isfinite().all()


def test_one_class_and_no_tensor_is_kept():
    loss = AsymmetricLossSingleLabel()
    assert loss(torch.randn(3, 1), torch.zeros(3, dtype=torch.long)) == 0
    assert not any(isinstance(value, torch.Tensor) for value in vars(loss).values())
    assert not list(loss.buffers())


def test_kernels_run(given):
    assert "smoothed_asymmetric_kernel" in explain(AsymmetricLossSingleLabel(), *given)
    assert "softmax_focal_kernel" in explain(AsymmetricLossSingleLabel(smoothing=0.0), *given)


def test_errors():
    x = torch.zeros(2, 3)
    with pytest.raises(InputError, match=r"class indices of shape \(2,\) .* Multi-hot targets go to AsymmetricLoss"):
        AsymmetricLossSingleLabel()(x, x)
    for options, text in (
        ({"gamma_neg": -1}, "gamma_neg: expected a number >= 0"),
        ({"gamma_pos": -1}, "gamma_pos: expected a number >= 0"),
        ({"smoothing": 1.0}, "smoothing: expected a number >= 0 and < 1"),
    ):
        with pytest.raises(ConfigError, match=text):
            AsymmetricLossSingleLabel(**options)
