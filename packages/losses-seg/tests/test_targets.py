"""What all segmentation losses share: target forms, ignored pixels, edge inputs, and texts of errors."""

import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from losses_core import InputError, build_multi_loss
from losses_seg import (
    BinaryDiceLoss,
    BoundaryLoss,
    DiceLoss,
    GeneralizedDiceLoss,
    HDLoss,
    LovaszHingeLoss,
    LovaszLoss,
    OHEMBinaryLoss,
    OHEMCrossEntropyLoss,
)

SEVERAL = [DiceLoss, GeneralizedDiceLoss, LovaszLoss, BoundaryLoss, HDLoss, OHEMCrossEntropyLoss]
ONE = [DiceLoss, BinaryDiceLoss, GeneralizedDiceLoss, LovaszLoss, LovaszHingeLoss, BoundaryLoss, HDLoss, OHEMBinaryLoss]
several = pytest.mark.parametrize("loss", SEVERAL, ids=lambda loss: loss.__name__)
one = pytest.mark.parametrize("loss", ONE, ids=lambda loss: loss.__name__)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@several
@pytest.mark.parametrize("shape", [(9,), (6, 5), (3, 4, 5)])
def test_every_form_of_a_target_gives_the_same(loss, shape):
    x, y = torch.randn(2, 4, *shape, requires_grad=True), torch.randint(4, (2, *shape))
    y[0, 0] = 255
    hot = F.one_hot(y.where(y != 255, 0), 4).movedim(-1, 1)
    dense = torch.where((y == 255).unsqueeze(1), 255, hot)
    expected = loss()(x, y)
    (gradient,) = torch.autograd.grad(expected, x)
    for target in (y.unsqueeze(1), y.to(torch.uint8), y.int(), dense, dense.to(torch.uint8), dense.float()):
        value = loss()(x, target)
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(torch.autograd.grad(value, x)[0], gradient, atol=1e-6, rtol=1e-4)


@one
@pytest.mark.parametrize("shape", [(9,), (6, 5), (3, 4, 5)])
def test_every_form_of_a_binary_target_gives_the_same(loss, shape):
    x, y = torch.randn(2, 1, *shape), torch.randint(2, (2, *shape))
    y[0, 0] = 255
    expected = loss()(x, y)
    for target in (y.unsqueeze(1), y.to(torch.uint8), y.float(), y.unsqueeze(1).float()):
        torch.testing.assert_close(loss()(x, target), expected)


@several
@pytest.mark.parametrize("poison", [torch.nan, torch.inf, -torch.inf, 6e4])
def test_ignored_pixels_are_as_cut_off(loss, poison):
    """The last columns are ignored: value and gradient are those of the image without them."""
    x, y = torch.randn(2, 4, 6, 8), torch.randint(4, (2, 6, 8))
    y[..., 5:] = 255
    whole = x.clone()
    whole[..., 5:] = poison
    whole.requires_grad_()
    part = x[..., :5].clone().requires_grad_()
    values = loss()(whole, y), loss()(part, y[..., :5])
    torch.testing.assert_close(*values)
    for value in values:
        value.backward()
    assert torch.equal(whole.grad[..., 5:], torch.zeros(2, 4, 6, 3))
    torch.testing.assert_close(whole.grad[..., :5], part.grad)


@one
@pytest.mark.parametrize("poison", [torch.nan, torch.inf])
def test_ignored_pixels_are_as_cut_off_in_one_channel(loss, poison):
    x, y = torch.randn(2, 1, 6, 8), torch.randint(2, (2, 6, 8))
    y[..., 5:] = 255
    whole = x.clone()
    whole[..., 5:] = poison
    whole.requires_grad_()
    value = loss()(whole, y)
    torch.testing.assert_close(value, loss()(x[..., :5], y[..., :5]))
    value.backward()
    assert torch.equal(whole.grad[..., 5:], torch.zeros(2, 1, 6, 3))
    assert whole.grad.isfinite().all()


EMPTY, FULL = torch.zeros(2, 6, 6, dtype=torch.long), torch.ones(2, 6, 6, dtype=torch.long)


@one
@pytest.mark.parametrize("mask", [EMPTY, FULL, torch.full_like(FULL, 255)], ids=["empty", "full", "ignored"])
@pytest.mark.parametrize("logit", [0.0, 6e4, -6e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_masks_of_one_value(loss, mask, logit, dtype):
    x = torch.full((2, 1, 6, 6), logit, dtype=dtype, requires_grad=True)
    value = loss()(x, mask)
    value.backward()
    assert value.isfinite()
    assert x.grad.isfinite().all()


@several
@pytest.mark.parametrize("label", [0, 2, 255])
@pytest.mark.parametrize("classes", [2, 3])
def test_uniform_logits_of_several_classes(loss, label, classes):
    x = torch.zeros(2, classes, 6, 6, requires_grad=True)
    value = loss()(x, torch.full((2, 6, 6), label if label == 255 else label % classes))
    value.backward()
    assert value.isfinite()
    assert x.grad.isfinite().all()


@several
def test_a_negative_label_in_8_bits_is_no_label(loss):
    """ignore_index=-100 must not wrap to 156."""
    x, y = torch.randn(1, 160, 4, 4), torch.full((1, 4, 4), 156, dtype=torch.uint8)
    y[0, 0] = 3
    torch.testing.assert_close(loss(ignore_index=-100)(x, y), loss(ignore_index=-100)(x, y.long()))


@several
def test_deterministic_mode_gives_the_same(loss):
    x, y = torch.randn(2, 5, 12, 11, requires_grad=True), torch.randint(5, (2, 12, 11))
    y[0, 3] = 255
    values = []
    for mode in (False, True):
        torch.use_deterministic_algorithms(mode)
        try:
            value = loss()(x, y)
            values.append((value, *torch.autograd.grad(value, x)))
        finally:
            torch.use_deterministic_algorithms(False)
    torch.testing.assert_close(*values)


@pytest.mark.parametrize("deterministic", [False, True])
def test_indices_are_not_encoded(deterministic):
    """At 150 classes no tensor but the probabilities and their gradient has a class axis."""
    seen = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **kwargs or {})
            if isinstance(out, torch.Tensor) and out.numel() >= 150 * 20 * 20:
                seen.append((str(func), out.dtype, out.untyped_storage().data_ptr()))
            return out

    x, y = torch.randn(1, 150, 20, 20, requires_grad=True), torch.randint(150, (1, 20, 20))
    torch.use_deterministic_algorithms(deterministic)
    try:
        with Watch():
            value = DiceLoss()(x, y)
    finally:
        torch.use_deterministic_algorithms(False)
    assert {dtype for _, dtype, _ in seen} <= {torch.float32, torch.int32}  # int32: a view of the probabilities' bits
    assert not any("one_hot" in name or "eq" in name for name, _, _ in seen)
    value.backward()


@settings(max_examples=40, deadline=None)
@given(
    number=st.integers(0, len(SEVERAL) - 1),
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    n=st.integers(1, 3),
    c=st.integers(2, 5),
    ignored=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 1000),
)
def test_any_shape(number, shape, n, c, ignored, seed):
    """Finite, not negative, of one gradient per pixel that counts; the target stays as it is."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, c, *shape, generator=generator, requires_grad=True)
    y = torch.randint(c, (n, *shape), generator=generator)
    y[torch.rand(y.shape, generator=generator) < ignored] = 255
    kept = y.clone()
    value = SEVERAL[number]()(x, y)
    value.backward()
    assert value.isfinite()
    assert value >= -1e-6
    assert x.grad.isfinite().all()
    assert not x.grad.movedim(1, -1)[y == 255].any()
    assert torch.equal(y, kept)


@several
def test_shapes_that_do_not_fit(loss):
    x = torch.randn(2, 19, 8, 8)
    forms = "(2, 8, 8), (2, 1, 8, 8) or (2, 19, 8, 8)"
    text = f"{loss.__name__}: expected target of shape {forms} for pred (2, 19, 8, 8); got (2, 4, 4)"
    with pytest.raises(InputError, match=re.escape(text)):
        loss()(x, torch.zeros(2, 4, 4, dtype=torch.long))
    for shape in ((2, 8), (8, 8), (1, 8, 8), (2, 2, 8, 8), (2, 8, 8, 19)):
        with pytest.raises(InputError, match=loss.__name__):
            loss()(x, torch.zeros(shape, dtype=torch.long))


@several
def test_indices_are_integers(loss):
    with pytest.raises(InputError, match=f"{loss.__name__}: .*integer"):
        loss()(torch.randn(2, 3, 4, 4), torch.zeros(2, 4, 4))


@pytest.mark.parametrize("loss", [DiceLoss, GeneralizedDiceLoss, LovaszLoss, BoundaryLoss, HDLoss])
def test_spatial_axes_are_needed(loss):
    with pytest.raises(
        InputError, match=r"expected pred of shape \(N, C, \*S\), with one or more spatial axes; got \(4, 3\)"
    ):
        loss()(torch.randn(4, 3), torch.zeros(4, dtype=torch.long))


@pytest.mark.parametrize("value", [7, -1])
@several
def test_a_label_outside_the_classes(loss, value):
    x, y = torch.randn(2, 3, 4, 5), torch.zeros(2, 4, 5, dtype=torch.long)
    y[1, 2, 3] = value
    text = (
        f"{loss.__name__}: expected target with class indices in [0, 3) or ignore_index=255; got {value} at [1, 2, 3]"
    )
    with pytest.raises(InputError, match=re.escape(text)):
        loss()(x, y)
    assert loss()(x, y, ignore_index=value).isfinite()


@one
def test_a_mask_with_another_value(loss):
    x, y = torch.randn(2, 1, 4, 5), torch.randint(2, (2, 4, 5))
    y[0, 1, 2] = 255
    text = rf"{loss.__name__}: expected target with numbers in \[0, 1\] or ignore_index=-100; got 255"
    with pytest.raises(InputError, match=text):
        loss()(x, y, ignore_index=-100)
    assert loss()(x, y).isfinite()


@pytest.mark.parametrize("shape", [(), (4,)])
@pytest.mark.parametrize("loss", [*SEVERAL, BinaryDiceLoss, LovaszHingeLoss], ids=lambda loss: loss.__name__)
def test_a_pred_without_pixels(loss, shape):
    with pytest.raises(InputError, match=f"{loss.__name__}: expected"):
        loss()(torch.zeros(shape), torch.zeros(shape, dtype=torch.long))


@several
def test_nothing_is_ignored(loss):
    x, y = torch.randn(2, 3, 4, 5), torch.randint(3, (2, 4, 5))
    torch.testing.assert_close(loss()(x, y, ignore_index=None), loss()(x, y))
    torch.testing.assert_close(loss(ignore_index=1)(x, y, ignore_index=None), loss()(x, y))
    y[0, 0, 0] = 255
    with pytest.raises(InputError, match=rf"{loss.__name__}: expected target with class indices in \[0, 3\); got 255"):
        loss()(x, y, ignore_index=None)


def test_they_add_up_in_one_config():
    names = [loss.__name__ for loss in SEVERAL]
    criterion = build_multi_loss([{"type": name, "loss_weight": 0.5} for name in names])
    x, y = torch.randn(2, 3, 8, 8, requires_grad=True), torch.randint(3, (2, 8, 8))
    terms = criterion.terms(x, y)
    torch.testing.assert_close(terms.total, sum(0.5 * loss()(x, y) for loss in SEVERAL))
    terms.total.backward()
    assert x.grad.isfinite().all()
