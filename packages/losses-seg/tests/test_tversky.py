"""TverskyLoss, FocalTverskyLoss and JaccardLoss: what each equals, and what they do at the edges."""

import pytest
import torch

from losses_core import ConfigError, InputError
from losses_core.kernels import explain
from losses_seg import DiceLoss, FocalTverskyLoss, JaccardLoss, TverskyLoss
from losses_seg.functional import focal_tversky_loss, tversky_loss

LOSSES = [TverskyLoss, FocalTverskyLoss, JaccardLoss]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def both(loss, x, y):
    x = x.clone().requires_grad_()
    value = loss(x, y)
    return value.detach(), *torch.autograd.grad(value, x)


@pytest.mark.parametrize("smooth", [0.0, 1.0, 30.0])
@pytest.mark.parametrize("soft", [False, True])
def test_half_and_half_is_dice_with_twice_the_smoothing(smooth, soft):
    x = torch.randn(2, 3, 5, 6, dtype=torch.double)
    y = torch.randn_like(x).softmax(1) if soft else torch.randint(3, (2, 5, 6))
    torch.testing.assert_close(
        both(TverskyLoss(smooth=smooth), x, y), both(DiceLoss(naive_dice=True, smooth=2 * smooth), x, y)
    )


def test_jaccard_is_tversky_with_both_weights_one():
    x, y = torch.randn(2, 3, 5, 6), torch.randint(3, (2, 5, 6))
    y[0, 0] = 255
    assert both(JaccardLoss(smooth=2.0), x, y)[0] == both(TverskyLoss(alpha=1.0, beta=1.0, smooth=2.0), x, y)[0]
    assert "region_sums" in explain(JaccardLoss(), x, y)


def test_alpha_weights_false_positives_and_beta_false_negatives():
    p, y = torch.tensor([[[1.0, 1.0, 1.0, 0.0]]]), torch.tensor([[1, 0, 0, 1]])  # one right, two false, one missed
    loss = TverskyLoss(alpha=0.2, beta=3.0, smooth=0.0, activation="none")
    torch.testing.assert_close(loss(p, y), torch.tensor(1 - 1 / (1 + 0.2 * 2 + 3.0)))


def test_focal_is_a_power_of_each_class_and_not_of_the_mean():
    x, y = torch.randn(2, 3, 5, 6), torch.randint(3, (2, 5, 6))
    each = TverskyLoss(alpha=0.3, beta=0.7, reduction="none")(x, y)
    for gamma in (0.5, 0.75, 4 / 3, 2.0):
        torch.testing.assert_close(FocalTverskyLoss(gamma=gamma)(x, y), (each**gamma).mean())
        assert not torch.isclose(FocalTverskyLoss(gamma=gamma)(x, y), each.mean() ** gamma, rtol=1e-4)
    one, plain = both(FocalTverskyLoss(gamma=1.0), x, y), both(TverskyLoss(alpha=0.3, beta=0.7), x, y)
    torch.testing.assert_close(one, plain, rtol=0, atol=0)


@pytest.mark.parametrize("gamma", [0.1, 0.75, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_focal_at_a_perfect_prediction(gamma, dtype):
    y = torch.randint(3, (2, 5, 6))
    perfect = torch.nn.functional.one_hot(y, 3).movedim(-1, 1).to(dtype)
    for loss, x in (
        (FocalTverskyLoss(gamma=gamma), 1e4 * perfect),
        (FocalTverskyLoss(gamma=gamma, activation="none"), perfect),
        (FocalTverskyLoss(gamma=gamma, activation="none", smooth=0.0), perfect * 0),
    ):
        value, gradient = both(loss, x, y if x.any() else torch.full_like(y, 255))
        assert value == 0
        assert gradient.isfinite().all()


def test_focal_near_a_perfect_prediction():
    """Close to 0 the power is that of the distance, down to the machine epsilon."""
    p = torch.tensor([[[1.0, 1.0, 1e-3, 1e-3]]], dtype=torch.double, requires_grad=True)
    y = torch.tensor([[1, 1, 0, 0]])
    value = FocalTverskyLoss(gamma=0.75, activation="none")(p, y)
    torch.testing.assert_close(value, (0.3 * p[..., 2:].sum() / (3 + 0.3 * p[..., 2:].sum())) ** 0.75)


@pytest.mark.parametrize("cls", LOSSES)
def test_zero_over_zero_is_no_loss(cls):
    p = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]], requires_grad=True)
    value = cls(smooth=0.0, activation="none", reduction="none")(p, torch.tensor([[0, 0]]))
    assert value.tolist() == [[0.0, 0.0]]
    value.sum().backward()
    assert p.grad.isfinite().all()


@pytest.mark.parametrize("cls", LOSSES)
def test_the_loss_of_a_perfect_soft_prediction_is_0(cls):
    q = torch.randn(2, 3, 4, 5, dtype=torch.double).softmax(1)
    loss = cls(activation="none", smooth=0.0)
    torch.testing.assert_close(loss(q, q.clone()), torch.zeros((), dtype=torch.double), atol=1e-10, rtol=0)
    assert loss((q * 1e3).softmax(1), q) > 0.1


@pytest.mark.parametrize("cls", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_of_a_large_image_equals_float32(cls, dtype):
    """In float16 the sum of 512² probabilities is infinite, and other libraries return NaN."""
    x, y = torch.randn(1, 2, 512, 512).to(dtype), torch.randint(2, (1, 512, 512))
    value, gradient = both(cls(), x, y)
    expected, wanted = both(cls(), x.float(), y)
    torch.testing.assert_close(value, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(gradient, wanted.to(dtype))
    assert gradient.any()


@pytest.mark.parametrize("cls", LOSSES)
def test_present_excludes_absent_classes_from_both_sums(cls):
    x, y = torch.randn(2, 4, 5, 5), torch.stack([torch.full((5, 5), 1), torch.full((5, 5), 2)])
    each = cls(reduction="none")(x, y)
    torch.testing.assert_close(cls(classes="present")(x, y), (each[0, 1] + each[1, 2]) / 2)
    over_batch = cls(per_image=False, reduction="none")(x, y)
    assert over_batch.shape == (4,)
    torch.testing.assert_close(cls(per_image=False, classes="present")(x, y), over_batch[1:3].mean())


@pytest.mark.parametrize("cls", LOSSES)
def test_a_weight_needs_images(cls):
    x, y = torch.randn(2, 3, 4, 4), torch.randint(3, (2, 4, 4))
    with pytest.raises(InputError, match=rf"{cls.__name__}: takes no sample weight with per_image=False"):
        cls(per_image=False)(x, y, torch.ones(2))


@pytest.mark.parametrize("options", [{"alpha": -0.1}, {"beta": -1.0}, {"smooth": -1.0}, {"gamma": 0.0}])
def test_options_out_of_range(options):
    (name,) = options
    with pytest.raises(ConfigError, match=rf"FocalTverskyLoss: {name}: expected a number >=? 0; got "):
        FocalTverskyLoss(**options)


def test_options_of_the_functions_out_of_range():
    x, y = torch.randn(1, 2, 3, 3), torch.zeros(1, 3, 3, dtype=torch.long)
    with pytest.raises(InputError, match="tversky_loss: alpha: expected a number >= 0; got -1"):
        tversky_loss(x, y, alpha=-1)
    with pytest.raises(InputError, match="focal_tversky_loss: gamma: expected a number > 0; got 0"):
        focal_tversky_loss(x, y, gamma=0)
