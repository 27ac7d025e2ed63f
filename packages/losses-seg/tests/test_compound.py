"""DiceCELoss and DiceFocalLoss: the sum of two losses, from one softmax."""

import math

import pytest
import torch
import torch.nn.functional as F

from losses_core import CombinedLoss, ConfigError, InputError, build_loss
from losses_core._memory import PeakMemory
from losses_core.kernels import explain, use_definitions
from losses_core.utils import sigmoid_focal_loss
from losses_seg import BinaryDiceLoss, DiceCELoss, DiceFocalLoss, DiceLoss
from losses_seg.functional import dice_ce_loss, dice_focal_loss


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def both(loss, x, y, **keywords):
    x = x.clone().requires_grad_()
    value = loss(x, y, **keywords)
    return value.detach(), *torch.autograd.grad(value, x)


def cross_entropy(x, y, **options):
    """The mean over the labels that are not ignored, 0 where there is none."""
    return F.cross_entropy(x, y, ignore_index=255, **options) if (y != 255).any() else x.sum() * 0


def focal(x, y, gamma, alpha=1.0, weight=None):
    valid = y != 255
    labels = y.masked_fill(~valid, 0)
    log_p = F.log_softmax(x, 1).gather(1, labels[:, None])[:, 0]
    weight = torch.ones(x.shape[1], dtype=x.dtype) if weight is None else weight
    share = weight[labels] * valid
    return -(share * alpha * (1 - log_p.exp()) ** gamma * log_p).sum() / share.sum()


@pytest.fixture
def pixels():
    """Logits and labels of three images, one of them ignored and one in part."""
    x, y = 3 * torch.randn(3, 4, 5, 6, dtype=torch.double), torch.randint(4, (3, 5, 6))
    y[0, :2] = y[1] = 255
    return x, y


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"naive_dice": True, "smooth": 1e-5, "include_background": False},
        {"class_weight": [0.5, 1.0, 2.0, 0.25]},
        {"per_image": False, "classes": "present"},
        {"exponent": 1.5, "classes": [0, 2]},
    ],
    ids=str,
)
@pytest.mark.parametrize("definitions", [False, True])
def test_they_equal_the_sum_of_their_terms(pixels, options, definitions, monkeypatch):
    weight = torch.tensor(options["class_weight"], dtype=torch.double) if "class_weight" in options else None
    dice = DiceLoss(**options)
    for smoothing in (0.0, 0.2):
        expected = both(
            lambda x, y, s=smoothing: 0.7 * dice(x, y) + 2 * cross_entropy(x, y, weight=weight, label_smoothing=s),
            *pixels,
        )
        loss = DiceCELoss(dice_weight=0.7, ce_weight=2.0, label_smoothing=smoothing, **options)
        for block in (7, 1 << 16):
            monkeypatch.setattr("losses_core._blocks.CPU_BLOCK", block)
            if definitions:
                with use_definitions():
                    torch.testing.assert_close(both(loss, *pixels), expected)
            else:
                torch.testing.assert_close(both(loss, *pixels), expected)
    for gamma in (0.5, 1.0, 2.0):
        expected = both(lambda x, y, g=gamma: 0.7 * dice(x, y) + 2 * focal(x, y, g, 0.3, weight), *pixels)
        loss = DiceFocalLoss(dice_weight=0.7, focal_weight=2.0, gamma=gamma, alpha=0.3, **options)
        torch.testing.assert_close(both(loss, *pixels), expected)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("options", [{}, {"naive_dice": True}, {"per_image": False}], ids=str)
def test_of_one_channel_they_equal_the_binary_losses(soft, options):
    x = 3 * torch.randn(3, 1, 4, 5, dtype=torch.double)
    y = torch.rand(x.shape, dtype=torch.double) if soft else torch.randint(2, x.shape).double()
    y[0, :, :2] = y[1] = 255
    valid, dice = y != 255, BinaryDiceLoss(**options)
    expected = both(lambda x, y: dice(x, y) + F.binary_cross_entropy_with_logits(x[valid], y[valid]), x, y)
    torch.testing.assert_close(both(DiceCELoss(**options), x, y), expected)
    for alpha, gamma in ((None, 2.0), (0.25, 1.5), (0.25, 0.0)):
        expected = both(
            lambda x, y, a=alpha, g=gamma: dice(x, y) + sigmoid_focal_loss(x[valid], y[valid], a, g).mean(), x, y
        )
        torch.testing.assert_close(both(DiceFocalLoss(alpha=alpha, gamma=gamma, **options), x, y), expected)


def test_sum_is_the_sum_of_both_sums(pixels):
    expected = both(
        lambda x, y: DiceLoss(reduction="sum")(x, y) + F.cross_entropy(x, y, ignore_index=255, reduction="sum"), *pixels
    )
    torch.testing.assert_close(both(DiceCELoss(reduction="sum"), *pixels), expected)
    torch.testing.assert_close(both(DiceCELoss(), *pixels, reduction_override="sum"), expected)


def test_soft_targets(pixels):
    x, q = pixels[0], torch.randn_like(pixels[0]).softmax(1)
    expected = both(lambda x, q: DiceLoss(naive_dice=True)(x, q) + F.cross_entropy(x, q, label_smoothing=0.1), x, q)
    torch.testing.assert_close(both(DiceCELoss(naive_dice=True, label_smoothing=0.1), x, q), expected)
    hot = F.one_hot(pixels[1].clamp(max=3), 4).movedim(-1, 1).contiguous()
    for loss in (DiceCELoss(class_weight=[1.0, 2.0, 0.5, 1.0]), DiceFocalLoss(alpha=[0.1, 0.2, 0.3, 0.4])):
        a, b = both(loss, x, hot, reduction_override="sum"), both(loss, x, hot.argmax(1), reduction_override="sum")
        torch.testing.assert_close(a, b)


def test_a_weight_multiplies_both_terms_and_enters_no_normalizer(pixels):
    x, y = pixels
    weight = torch.tensor([0.5, 3.0, 2.0], dtype=torch.double)
    each = DiceLoss(reduction="none")(x, y) * weight[:, None]
    entropy = F.cross_entropy(x, y, ignore_index=255, reduction="none") * weight[:, None, None]
    expected = each.sum() / 8 + entropy.sum() / (y != 255).sum()
    torch.testing.assert_close(DiceCELoss()(x, y, weight), expected)
    with pytest.raises(InputError, match="DiceCELoss: takes no sample weight with per_image=False"):
        DiceCELoss(per_image=False)(x, y, weight)


def test_gamma_zero_is_dice_and_cross_entropy(pixels):
    for x, y in (pixels, (pixels[0], torch.randn_like(pixels[0]).softmax(1)), (pixels[0][:, :1], pixels[1] > 1)):
        torch.testing.assert_close(both(DiceFocalLoss(gamma=0.0), x, y), both(DiceCELoss(), x, y))


def test_what_the_functions_return_adds_up_to_the_loss(pixels):
    for function, loss in ((dice_ce_loss, DiceCELoss), (dice_focal_loss, DiceFocalLoss)):
        value, normalizer, _ = function(*pixels)
        assert value.shape == (3,)
        torch.testing.assert_close(normalizer.sum(), torch.ones((), dtype=torch.double))
        torch.testing.assert_close(value.sum(), loss()(*pixels))
        assert function(*pixels, per_image=False).value.ndim == 0
        assert function(*pixels, reduction="sum").normalizer is None


def test_one_softmax_serves_both():
    x, y = torch.randn(2, 4, 5, 6), torch.randint(4, (2, 5, 6))
    assert "softmax_sums" in explain(DiceCELoss(), x, y)
    with torch.profiler.profile(acc_events=True) as profile:
        DiceCELoss()(x.requires_grad_(), y).backward()
    names = [event.key for event in profile.key_averages() for _ in range(event.count)]
    assert sum(name in ("aten::_softmax", "aten::_log_softmax") for name in names) == 1
    assert sum(name == "aten::eq" for name in names) == 0  # nothing is ignored here
    y[0, 0] = 255
    with torch.profiler.profile(acc_events=True) as profile:
        DiceCELoss()(x, y).backward()
    names = [event.key for event in profile.key_averages() for _ in range(event.count)]
    assert sum(name in ("aten::_softmax", "aten::_log_softmax") for name in names) == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("classes", [1, 4])
def test_memory_is_less_than_that_of_both(dtype, classes):
    x = torch.empty(2, classes, 256, 256, 1024 // classes, dtype=dtype, device="meta", requires_grad=True)
    y = torch.empty(2, 256, 256, 1024 // classes, dtype=torch.long, device="meta")
    for loss in (DiceCELoss(), DiceFocalLoss()):
        with PeakMemory() as memory:
            loss(x, y).backward()
        # Dice and cross-entropy as two losses keep a gradient each, and need a third place to add them: 3
        assert memory.peak < 2 * x.numel() * dtype.itemsize


def test_saturated_logits_have_the_whole_cross_entropy():
    """The logarithm of a probability that underflows would be infinite, or cut off."""
    y = torch.randint(3, (2, 4, 5))
    for sign in (1, -1):
        x = sign * (2e4 * F.one_hot(y, 3).movedim(-1, 1).double() - 1e4)
        torch.testing.assert_close(DiceCELoss(dice_weight=0.0)(x.float(), y).double(), F.cross_entropy(x, y))
    x = torch.tensor([[[0.0], [-math.inf]]], requires_grad=True)
    value = DiceCELoss()(x, F.one_hot(torch.tensor([[0]]), 2).movedim(-1, 1).float())
    assert value == 0
    assert torch.autograd.grad(value, x)[0].isfinite().all()


@pytest.mark.parametrize("cls", [DiceCELoss, DiceFocalLoss])
def test_no_single_value_and_no_single_normalizer(cls, pixels):
    with pytest.raises(
        InputError, match=f"{cls.__name__}: reduction='none' is not possible.* CombinedLoss of DiceLoss"
    ):
        cls()(*pixels, reduction_override="none")
    with pytest.raises(ConfigError, match=f"{cls.__name__}: reduction='none' is not possible.* CombinedLoss"):
        cls(reduction="none")
    with pytest.raises(InputError, match=f"{cls.__name__}: takes no avg_factor.* CombinedLoss of DiceLoss and"):
        cls()(*pixels, avg_factor=3)
    with pytest.raises(ConfigError, match=f"{cls.__name__}: takes no avg_factor"):
        cls(avg_factor=3.0)
    assert isinstance(build_loss([{"type": cls.__name__}, "DiceLoss"]), CombinedLoss)


def test_options_that_one_channel_does_not_have():
    x, y = torch.randn(2, 1, 4, 5), torch.randint(2, (2, 4, 5))
    with pytest.raises(InputError, match="DiceCELoss: label_smoothing has no meaning for one channel"):
        DiceCELoss(label_smoothing=0.1)(x, y)
    with pytest.raises(InputError, match="DiceFocalLoss: class_weight has no meaning for one channel"):
        DiceFocalLoss(class_weight=[2.0])(x, y)


def test_options_out_of_range(pixels):
    for options in ({"dice_weight": -1.0}, {"ce_weight": -1.0}, {"label_smoothing": 1.5}, {"smooth": -1.0}):
        (name,) = options
        with pytest.raises(ConfigError, match=f"DiceCELoss: {name}: expected a number >= 0"):
            DiceCELoss(**options)
    with pytest.raises(InputError, match="dice_focal_loss: gamma: expected a number >= 0; got -1"):
        dice_focal_loss(*pixels, gamma=-1)
    with pytest.raises(InputError, match="dice_ce_loss: reduction: expected 'mean' or 'sum'; got 'none'"):
        dice_ce_loss(*pixels, reduction="none")
    with pytest.raises(TypeError, match="activation"):
        DiceCELoss(activation="none")
