"""DiceLoss and BinaryDiceLoss: the options, the target forms, large images, and what must not matter."""

import pytest
import torch

from losses_core import ConfigError, InputError, _blocks, build_loss
from losses_core._memory import PeakMemory
from losses_core.kernels import use_definitions
from losses_seg import BinaryDiceLoss, DiceLoss, GeneralizedDiceLoss
from losses_seg.functional import dice_loss


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def by_hand(p, g, smooth=1.0, exponent=2):
    return 1 - (2 * (p * g).sum() + smooth) / ((p**exponent).sum() + (g**exponent).sum() + smooth)


def test_by_hand():
    x, y = torch.randn(1, 3, 5, 6), torch.randint(3, (1, 5, 6))
    p = x.softmax(1)
    classes = [by_hand(p[:, c], (y == c).float()) for c in range(3)]
    torch.testing.assert_close(DiceLoss()(x, y), torch.stack(classes).mean())
    naive = [by_hand(p[:, c], (y == c).float(), exponent=1) for c in range(3)]
    torch.testing.assert_close(DiceLoss(naive_dice=True)(x, y), torch.stack(naive).mean())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_of_a_large_image_equals_float32(dtype):
    """In float16 the sum of 512² probabilities is infinite."""
    x, y = torch.randn(1, 2, 512, 512).to(dtype), torch.randint(2, (1, 512, 512))
    for loss in (DiceLoss(), DiceLoss(naive_dice=True)):
        value = loss(x, y)
        torch.testing.assert_close(value, loss(x.float(), y), atol=1e-3, rtol=0)
        assert 0.3 < value < 0.6
        half = x.clone().requires_grad_()
        loss(half, y).backward()
        assert half.grad.any()
        assert half.grad.isfinite().all()


def test_sums_of_a_large_image_are_exact_to_float32():
    x, y = torch.randn(1, 2, 1024, 1024), torch.randint(2, (1, 1024, 1024))
    torch.testing.assert_close(DiceLoss()(x, y).double(), DiceLoss()(x.double(), y), atol=1e-6, rtol=0)


def test_the_loss_of_a_perfect_soft_prediction_is_0():
    q = torch.randn(2, 3, 4, 5).softmax(1)
    loss = DiceLoss(naive_dice=True, activation="none", smooth=0.0)
    torch.testing.assert_close(loss(q, q.clone()), torch.tensor(0.0))
    x = q.clone().requires_grad_()
    loss(x, q).backward()
    torch.testing.assert_close(x.grad, torch.zeros_like(x), atol=1e-6, rtol=0)
    # with a product as intersection, the loss of a sharper prediction would be lower than that of the true one
    assert loss(q, q) <= min(loss((q * 1e3).softmax(1), q), loss(q.flip(1), q))


def test_a_soft_target_gets_its_gradient():
    x, q = torch.randn(2, 3, 4, 5, dtype=torch.double), torch.randn(2, 3, 4, 5, dtype=torch.double)
    for options in ({}, {"naive_dice": True}):
        loss = DiceLoss(**options)
        assert torch.autograd.gradcheck(
            lambda x, q, loss=loss: loss(x, q.softmax(1)), (x.requires_grad_(), q.requires_grad_())
        )


def test_smooth_zero_and_an_empty_class():
    """The loss of a class that is neither there nor predicted is 0 with smooth 0, and 0/0 gives no NaN."""
    p = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]], requires_grad=True)
    loss = DiceLoss(smooth=0.0, activation="none", reduction="none")
    value = loss(p, torch.tensor([[0, 0]]))
    assert value.tolist() == [[0.0, 0.0]]
    value.sum().backward()
    assert p.grad.isfinite().all()


def test_present_excludes_absent_classes():
    x, y = torch.randn(2, 4, 5, 5), torch.stack([torch.full((5, 5), 1), torch.full((5, 5), 2)])
    each = DiceLoss(reduction="none")(x, y)
    torch.testing.assert_close(DiceLoss(classes="present")(x, y), (each[0, 1] + each[1, 2]) / 2)
    torch.testing.assert_close(DiceLoss(classes=[1, 3])(x, y), each[:, [1, 3]].mean())
    over_batch = DiceLoss(per_image=False, reduction="none")(x, y)
    assert over_batch.shape == (4,)
    torch.testing.assert_close(DiceLoss(per_image=False, classes="present")(x, y), over_batch[1:3].mean())
    built = build_loss({"type": "DiceLoss", "classes": "".join(["pre", "sent"])})
    torch.testing.assert_close(built(x, y), DiceLoss(classes="present")(x, y))


def test_background_and_weights():
    x, y = torch.randn(2, 3, 5, 5), torch.randint(3, (2, 5, 5))
    each = DiceLoss(reduction="none")(x, y)
    torch.testing.assert_close(DiceLoss(include_background=False)(x, y), each[:, 1:].mean())
    weight = torch.tensor([1.0, 2.0, 5.0])
    torch.testing.assert_close(DiceLoss(class_weight=weight)(x, y), (each * weight).sum() / (2 * weight.sum()))
    images = torch.tensor([3.0, 0.5])
    torch.testing.assert_close(DiceLoss()(x, y, images), (each * images[:, None]).mean())


def test_an_ignored_class_leaves_the_mean():
    x, y = torch.randn(1, 3, 6, 6), torch.randint(3, (1, 6, 6))
    each = DiceLoss(reduction="none", ignore_index=2)(x, y)
    kept = (y != 2).flatten()
    columns = x.flatten(2)[:, :, kept]
    expected = DiceLoss(reduction="none")(columns, y.flatten(1)[:, kept])
    torch.testing.assert_close(each[:, :2], expected[:, :2])
    torch.testing.assert_close(DiceLoss(ignore_index=2)(x, y), expected[:, :2].mean())
    torch.testing.assert_close(DiceLoss()(x, y, ignore_index=2), expected[:, :2].mean())


def test_binary_equals_dice_on_one_channel():
    x, y = torch.randn(3, 1, 4, 5), torch.randint(2, (3, 4, 5))
    expected = DiceLoss(reduction="none")(x, y)
    assert expected.shape == (3, 1)
    loss = BinaryDiceLoss(reduction="none")
    for pred, target in ((x, y), (x, y[:, None]), (x[:, 0], y), (x, y[:, None].float()), (x, y.bool())):
        torch.testing.assert_close(loss(pred, target), expected[:, 0])


def test_binary_refuses_several_channels():
    with pytest.raises(InputError, match=r"BinaryDiceLoss: expected pred of shape \(N, 1, \*S\).* go to DiceLoss"):
        BinaryDiceLoss()(torch.randn(2, 2, 4, 4), torch.randint(2, (2, 4, 4)))


def test_a_weight_needs_images():
    x, y = torch.randn(2, 3, 4, 4), torch.randint(3, (2, 4, 4))
    with pytest.raises(InputError, match="per_image=False, where images share their sums; use per_image=True"):
        DiceLoss(per_image=False)(x, y, torch.ones(2))
    with pytest.raises(InputError, match=r"expected weight of shape \(2,\), one number per image.*got \(2, 4, 4\)"):
        DiceLoss()(x, y, torch.ones(2, 4, 4))


@pytest.mark.parametrize(
    "options", [{"smooth": -1.0}, {"exponent": 0.5}, {"classes": "some"}, {"classes": []}, {"classes": [-1]}]
)
def test_options_out_of_range(options):
    (name,) = options
    with pytest.raises(ConfigError, match=rf"DiceLoss: {name}: expected .*; got "):
        DiceLoss(**options)


def test_other_wrong_options():
    with pytest.raises(
        TypeError, match="classes: expected one of 'all', 'present', or a list of class ids >= 0; got 3"
    ):
        DiceLoss(classes=3)
    x, y = torch.randn(1, 2, 3, 3), torch.zeros(1, 3, 3, dtype=torch.long)
    with pytest.raises(InputError, match=r"classes: expected ids below 2 for pred \(1, 2, 3, 3\); got \[0, 2\]"):
        DiceLoss(classes=[0, 2])(x, y)
    with pytest.raises(
        InputError, match="activation='softmax' of one channel is 1 everywhere; use 'sigmoid' or 'auto'"
    ):
        DiceLoss(activation="softmax")(x[:, :1], y)
    with pytest.raises(
        InputError, match="activation: expected one of 'auto', 'softmax', 'sigmoid', 'none'; got 'relu'"
    ):
        dice_loss(x, y, activation="relu")
    with pytest.raises(ConfigError, match="class_weight"):
        DiceLoss(class_weight=[1.0, -2.0])


def test_a_class_that_is_ignored_is_so_in_either_form_of_the_target():
    x, labels = torch.randn(2, 4, 5, 6), torch.randint(4, (2, 5, 6))
    encoded = torch.nn.functional.one_hot(labels, 4).movedim(-1, 1)
    loss = DiceLoss(ignore_index=1)
    torch.testing.assert_close(loss(x, encoded), loss(x, labels))


@pytest.mark.parametrize(
    "options", [{}, {"per_image": False}, {"naive_dice": True, "class_weight": [1.0, 0.5, 0.0, 2.0]}]
)
@pytest.mark.parametrize("block", [7, 64, 1 << 16])
def test_blocks_do_not_change_the_result(block, options, monkeypatch):
    x, y = torch.randn(3, 4, 6, 7, dtype=torch.double, requires_grad=True), torch.randint(4, (3, 6, 7))
    y[0, :2] = 255
    loss = DiceLoss(**options)
    with use_definitions():
        expected = loss(x, y)
        expected = (expected, *torch.autograd.grad(expected, x))
    monkeypatch.setattr(_blocks, "CPU_BLOCK", block)
    value = loss(x, y)
    torch.testing.assert_close((value, *torch.autograd.grad(value, x)), expected)


@pytest.mark.parametrize("loss", [DiceLoss(), DiceLoss(naive_dice=True), GeneralizedDiceLoss(), BinaryDiceLoss()])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_memory_of_two_large_volumes(loss, dtype):
    classes = 1 if isinstance(loss, BinaryDiceLoss) else 4
    x = torch.empty(2, classes, 256, 256, 1024 // classes, dtype=dtype, device="meta", requires_grad=True)
    y = torch.empty(2, 256, 256, 1024 // classes, dtype=torch.long, device="meta")
    with PeakMemory() as memory:
        loss(x, y).backward()
    assert memory.peak < 2.5 * x.numel() * dtype.itemsize


def test_sums_of_many_pixels_of_one_value():
    """A quarter of a million equal numbers, added one after the other in float32, are 0.1 % off."""
    x, y = torch.zeros(1, 2, 512, 512), torch.zeros(1, 512, 512, dtype=torch.long)
    x[:, 0] = 0.8
    for loss in (DiceLoss(), DiceLoss(naive_dice=True), GeneralizedDiceLoss()):
        torch.testing.assert_close(loss(x, y).double(), loss(x.double(), y), atol=3e-7, rtol=0)
        with use_definitions():
            torch.testing.assert_close(loss(x, y).double(), loss(x.double(), y), atol=3e-7, rtol=0)
