"""GeneralizedDiceLoss: the same value at every resolution, absent classes, the weights of the paper."""

import pytest
import torch

from losses_core import ConfigError, InputError
from losses_seg import DiceLoss, GeneralizedDiceLoss
from losses_seg.functional import generalized_dice_loss


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def halves(side):
    y = torch.zeros(1, side, side, dtype=torch.long)
    y[:, :, : side // 8] = 1
    return y


@pytest.mark.parametrize("weight_type", ["square", "simple", "uniform"])
@pytest.mark.parametrize("side", [64, 256, 1024, 2048])
def test_an_all_wrong_prediction_costs_one_at_every_resolution(side, weight_type):
    y = halves(side)
    wrong = 20.0 * torch.stack([y, 1 - y], 1) - 10
    value = GeneralizedDiceLoss(weight_type=weight_type)(wrong, y)
    torch.testing.assert_close(value, torch.tensor(1.0), atol=2e-3, rtol=0)


def test_the_value_does_not_depend_on_the_resolution():
    """Each pixel of the small image four times: only ``smooth``, which is in pixels, tells them apart."""
    x, y = torch.randn(1, 3, 32, 32), torch.randint(3, (1, 32, 32))
    large = x.repeat_interleave(16, 2).repeat_interleave(16, 3), y.repeat_interleave(16, 1).repeat_interleave(16, 2)
    for weight_type in ("square", "simple", "uniform"):
        loss = GeneralizedDiceLoss(smooth=0.0, weight_type=weight_type)
        torch.testing.assert_close(loss(*large), loss(x, y), atol=1e-5, rtol=0)
        with_smooth = GeneralizedDiceLoss(weight_type=weight_type)
        torch.testing.assert_close(with_smooth(*large), with_smooth(x, y), atol=5e-3, rtol=0)


def test_by_hand():
    p = torch.tensor([[[0.9, 0.6, 0.2], [0.1, 0.4, 0.8]]])
    y = torch.tensor([[0, 0, 1]])
    # areas 2 and 1: weights 1/4 and 1, the rarest class has weight 1
    expected = 1 - (2 * (1.5 / 4 + 0.8) + 1) / ((1.7 + 2) / 4 + (1.3 + 1) + 1)
    torch.testing.assert_close(GeneralizedDiceLoss(activation="none")(p, y), torch.tensor(expected))
    expected = 1 - 2 * (1.5 / 2 + 0.8) / ((1.7 + 2) / 2 + (1.3 + 1))
    loss = GeneralizedDiceLoss(activation="none", weight_type="simple", smooth=0.0)
    torch.testing.assert_close(loss(p, y), torch.tensor(expected))


def test_uniform_weights_of_one_class_are_its_dice():
    x, y = torch.randn(2, 2, 6, 6), torch.randint(2, (2, 6, 6))
    one = GeneralizedDiceLoss(weight_type="uniform", include_background=False, reduction="none")(x, y)
    torch.testing.assert_close(one, DiceLoss(naive_dice=True, reduction="none")(x, y)[:, 1])


def test_absent_classes():
    """``max``: predicting an absent class costs as much as the rarest one; ``zero``: nothing of its own."""
    y = torch.zeros(1, 8, 8, dtype=torch.long)
    y[0, 0, 0] = 1
    right = torch.nn.functional.one_hot(y, 3).movedim(-1, 1).float()
    stray = right.clone()
    stray[0, :, 7, 7] = torch.tensor([0.0, 0.0, 1.0])
    for absent, costs in (("max", True), ("zero", False)):
        loss = GeneralizedDiceLoss(activation="none", smooth=0.0, absent=absent)
        assert (loss(stray, y) > 0.1) == costs
        torch.testing.assert_close(loss(right, y), torch.tensor(0.0))


def test_one_channel_is_two():
    x, y = torch.randn(2, 1, 5, 5), torch.randint(2, (2, 5, 5))
    y[0, 0] = 255
    two = torch.cat([torch.zeros_like(x), x], 1)
    torch.testing.assert_close(GeneralizedDiceLoss()(x, y), GeneralizedDiceLoss()(two, y))
    loss = GeneralizedDiceLoss(ignore_index=0)  # a value, not a class
    assert loss(x, y % 255) > 0


@pytest.mark.parametrize("label", [0, 1])
def test_a_class_that_fills_the_image(label):
    x = torch.randn(1, 3, 8, 8, requires_grad=True)
    value = GeneralizedDiceLoss()(x, torch.full((1, 8, 8), label))
    value.backward()
    assert 0 < value < 1
    assert x.grad.isfinite().all()
    assert x.grad.any()


def test_wrong_options():
    with pytest.raises(ConfigError, match="weight_type: expected one of 'square', 'simple', 'uniform'; got 'cube'"):
        GeneralizedDiceLoss(weight_type="cube")
    with pytest.raises(ConfigError, match="absent: expected one of 'max', 'zero'; got 'one'"):
        GeneralizedDiceLoss(absent="one")
    with pytest.raises(InputError, match="weight_type: expected one of 'square', 'simple', 'uniform'; got 'cube'"):
        generalized_dice_loss(torch.randn(1, 2, 3), torch.zeros(1, 3, dtype=torch.long), weight_type="cube")
