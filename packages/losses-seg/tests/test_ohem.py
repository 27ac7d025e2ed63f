"""OHEMCrossEntropyLoss and OHEMBinaryLoss: what is kept, ties, few and no valid pixels, weights of zero."""

import contextlib
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from losses_core import ConfigError, InputError
from losses_core.kernels import use_definitions
from losses_seg import OHEMBinaryLoss, OHEMCrossEntropyLoss, _ops
from losses_seg._mining import hard_limit, next_above
from losses_seg.functional import ohem_binary_loss, ohem_cross_entropy_loss


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def same(actual, expected, x):
    torch.testing.assert_close(actual, expected)
    (got,), (want,) = (torch.autograd.grad(value.sum(), x) for value in (actual, expected))
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("shape", [(), (7,), (5, 6), (3, 4, 5)])
@pytest.mark.parametrize("weight", [None, [0.5, 1.0, 2.0]])
@pytest.mark.parametrize("rule", [{}, {"thresh": 1.0, "min_kept": 1}, {"thresh": None, "min_kept": 1.0}])
def test_keeping_everything_is_cross_entropy(shape, weight, rule):
    x, y = torch.randn(6, 3, *shape, requires_grad=True), torch.randint(3, (6, *shape))
    y[0] = 255
    class_weight = None if weight is None else torch.tensor(weight)
    loss = OHEMCrossEntropyLoss(class_weight=weight, **rule)
    same(loss(x, y), F.cross_entropy(x, y, class_weight, ignore_index=255), x)


@pytest.mark.parametrize("shape", [(4, 1, 5, 6), (4, 5, 6), (4, 3, 5, 6), (4, 2, 3, 4, 5)])
def test_keeping_everything_is_binary_cross_entropy(shape):
    x, y = torch.randn(shape, requires_grad=True), torch.randint(2, shape)
    same(OHEMBinaryLoss()(x, y), F.binary_cross_entropy_with_logits(x, y.float()), x)


def test_mining_looks_at_the_loss_without_class_weight():
    x, y = torch.randn(1, 2, 10), torch.randint(2, (1, 10))
    plain = OHEMCrossEntropyLoss(None, 4, reduction="none")(x, y)
    weighted = OHEMCrossEntropyLoss(None, 4, class_weight=[1.0, 0.001], reduction="none")(x, y)
    assert torch.equal(plain > 0, weighted > 0)


@settings(max_examples=80, deadline=None)
@given(
    k=st.one_of(st.integers(1, 40), st.floats(0.01, 1.0)),
    thresh=st.one_of(st.none(), st.floats(0.01, 1.0)),
    levels=st.integers(1, 6),
    ignored=st.sampled_from([0.0, 0.4, 0.95, 1.0]),
    seed=st.integers(0, 1000),
)
def test_what_is_kept(k, thresh, levels, ignored, seed):
    """At least K valid pixels, all that are as hard as the easiest kept one, and all below the threshold."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(levels, (2, 3, 4, 4), generator=generator).double()  # few values: many ties
    y = torch.randint(3, (2, 4, 4), generator=generator)
    y[torch.rand(y.shape, generator=generator) < ignored] = 255
    valid = y != 255
    loss = F.cross_entropy(x, y, reduction="none", ignore_index=255)
    kept = ohem_cross_entropy_loss(x, y, thresh=thresh, min_kept=k).normalizer > 0
    least = min(k, int(valid.sum())) if isinstance(k, int) else math.ceil(k * int(valid.sum()))
    assert not kept[~valid].any()
    assert kept.sum() >= least
    if kept.any():  # equal losses may differ by rounding, as sums of the same logits in another order
        assert kept[valid & (loss > loss[kept].min() + 1e-12)].all()
    if thresh is not None:
        assert kept[valid & (loss > -math.log(thresh) + 1e-12)].all()
    easy = kept if thresh is None else kept & (loss <= -math.log(thresh) - 1e-12)
    if easy.any():  # kept for the sake of K alone: without the last tie there would be fewer
        assert (kept & (loss > loss[easy].min() + 1e-12)).sum() < least


@pytest.mark.parametrize("rule", [{}, {"thresh": None, "min_kept": 3}, {"thresh": None, "min_kept": 0.5}])
def test_ties_are_kept(rule):
    x = torch.zeros(1, 2, 4, 4, requires_grad=True)
    value = OHEMCrossEntropyLoss(**rule)(x, torch.ones(1, 4, 4, dtype=torch.long))
    value.backward()
    torch.testing.assert_close(value, torch.tensor(math.log(2)))
    torch.testing.assert_close(x.grad[:, 0], torch.full((1, 4, 4), 0.5 / 16))


@pytest.mark.parametrize("min_kept", [1, 5, 100000, 0.01, 1.0])
@pytest.mark.parametrize("thresh", [None, 0.7])
def test_one_valid_pixel_and_none(min_kept, thresh):
    x = torch.full((1, 3, 2, 3), torch.nan)
    x[..., 1, 1] = torch.tensor([1.0, 0.0, -1.0])
    x.requires_grad_()
    y = torch.full((1, 2, 3), 255)
    y[0, 1, 1] = 1
    loss = OHEMCrossEntropyLoss(thresh, min_kept)
    value = loss(x, y)
    value.backward()
    torch.testing.assert_close(value, F.cross_entropy(x[:, :, 1, 1].detach(), y[:, 1, 1]))
    assert x.grad[..., 1, 1].any()
    assert not x.grad.sum(1)[y == 255].any()
    x.grad = None
    for one in (loss, OHEMBinaryLoss(thresh, min_kept)):
        pred, target = (x, torch.full_like(y, 255)) if one is loss else (x[:, :1], torch.full_like(y, 255))
        nothing = one(pred, target)
        nothing.backward()
        assert nothing == 0
        assert not x.grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("kernels", [True, False])
def test_with_threshold_1_every_pixel_is_hard(dtype, kernels):
    """Also one whose loss rounds to 0, in some precision or by some formula."""
    x = torch.tensor([[0.5, 200.0, 18.0, 30.0, -1.0], [0.0, -200.0, 0.0, 0.0, 1.0]]).T.to(dtype).requires_grad_()
    y, z = torch.tensor([0, 0, 0, 255, 1]), torch.tensor([[1, 1, 1, 255, 0]])
    losses = [OHEMCrossEntropyLoss(thresh=1.0, min_kept=1, reduction=r) for r in ("mean", "none")]
    binary = OHEMBinaryLoss(thresh=1.0, min_kept=1)
    with contextlib.nullcontext() if kernels else use_definitions():
        torch.testing.assert_close(losses[0](x, y), F.cross_entropy(x.to(losses[0](x, y).dtype), y, ignore_index=255))
        assert ohem_cross_entropy_loss(x, y, thresh=1.0, min_kept=1).normalizer.tolist() == [1, 1, 1, 0, 1]
        assert ohem_binary_loss(x[None, :, 0], z, thresh=1.0, min_kept=1).normalizer.tolist() == [[1, 1, 1, 0, 1]]
        valid = x[[0, 1, 2, 4], 0].to(binary(x[None, :, 0], z).dtype)
        expected = F.binary_cross_entropy_with_logits(valid, valid.new_tensor([1, 1, 1, 0]))
        torch.testing.assert_close(binary(x[None, :, 0], z), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_loss_equal_to_the_threshold_is_not_hard(dtype):
    x = torch.tensor([[0.0, 0.0], [0.0, 1e-6]], dtype=dtype)
    hard = ohem_cross_entropy_loss(x, torch.tensor([0, 0]), thresh=0.5, min_kept=1).normalizer
    assert hard.tolist() == [False, True]
    for number in (1e-10, 0.1, math.log(2), 1.0, 1.5, 700.0):
        above = torch.nextafter(torch.tensor(number, dtype=dtype), torch.tensor(math.inf, dtype=dtype)).item()
        assert next_above(number, torch.finfo(dtype).eps) == above


def test_labels_outside_the_classes_are_an_error():
    x, y = torch.randn(2, 3, 4), torch.zeros(2, 4, dtype=torch.long)
    y[1, 2] = 7
    with pytest.raises(InputError, match=r"OHEMCrossEntropyLoss: .*\[0, 3\).*got 7 at \[1, 2\]"):
        OHEMCrossEntropyLoss()(x, y)
    assert OHEMCrossEntropyLoss()(x, y, ignore_index=7) > 0
    mask = torch.zeros(2, 4)
    mask[0, 1] = 255
    for target in (mask, mask.long(), mask.to(torch.uint8)):
        for ignore_index in (None, 254, -1):
            with pytest.raises(InputError, match=r"OHEMBinaryLoss: .*\[0, 1\].*got 255.* at \[0, 1\]"):
                OHEMBinaryLoss()(x[:, 0], target, ignore_index=ignore_index)
        assert OHEMBinaryLoss()(x[:, 0], target) > 0


@pytest.mark.parametrize("loss", [OHEMCrossEntropyLoss(min_kept=3), OHEMBinaryLoss(min_kept=3)])
def test_ignore_index_none_ignores_nothing(loss):
    x, y = torch.randn(2, 2, 4), torch.randint(2, (2, 4))
    pred = x if isinstance(loss, OHEMCrossEntropyLoss) else x[:, 0]
    torch.testing.assert_close(loss(pred, y, ignore_index=None), loss(pred, y))
    weight = torch.tensor([1.0, 0.0])
    torch.testing.assert_close(loss(pred, y, weight, ignore_index=None), loss(pred[:1], y[:1]))


@pytest.mark.parametrize("loss", [OHEMCrossEntropyLoss(), OHEMBinaryLoss()])
@pytest.mark.parametrize("weight", [None, torch.ones(3)])
def test_preds_that_are_no_batch_of_pixels_are_an_error(loss, weight):
    name = type(loss).__name__
    for pred in (torch.randn(3), torch.randn(())):
        with pytest.raises(InputError, match=rf"{name}: expected pred of shape .*; got \("):
            loss(pred, torch.zeros(pred.shape, dtype=torch.long), weight)
    x = torch.randn(3, 2, 4)
    for pred in ((x, x), {"out": x}):
        with pytest.raises(InputError, match=f"{name}: expected pred as .*tensor"):
            loss(pred, torch.zeros(3, 4, dtype=torch.long), weight)
    with pytest.raises(InputError, match=f"{name}: expected target as a tensor"):
        loss(x, (x, x), weight)


@pytest.mark.parametrize("kept", [1, 20, 49, 60, 0.1, 1.0])
@pytest.mark.parametrize("thresh", [0.5, None])
def test_the_limit_is_the_same_where_no_value_is_read(kept, thresh, monkeypatch):
    values = torch.rand(50).where(torch.rand(50) > 0.2, -1)
    hard = values >= hard_limit(values, thresh, kept, None)
    monkeypatch.setattr(_ops, "transforms_active", lambda: True)  # as on accelerators
    assert torch.equal(values >= hard_limit(values, thresh, kept, None), hard)
    valid = int((values >= 0).sum())
    assert hard.sum() >= (min(kept, valid) if isinstance(kept, int) else math.ceil(kept * valid))


def test_part_of_the_valid_pixels():
    x = torch.arange(10.0).reshape(1, 1, 10)
    y = torch.zeros(1, 10, dtype=torch.long)
    y[0, 8:] = 255
    kept = OHEMBinaryLoss(None, 0.3, reduction="none")(x, y) > 0
    assert kept.flatten().nonzero().flatten().tolist() == [5, 6, 7]  # ceil(0.3 · 8) = 3


def test_a_pixel_of_weight_zero_is_not_mined():
    x, y = torch.randn(2, 3, 4, 4), torch.randint(3, (2, 4, 4))
    weight = torch.ones(2, 4, 4)
    weight[:, 2:] = 0
    masked = torch.where(weight > 0, y, 255)
    loss = OHEMCrossEntropyLoss(None, 5)
    torch.testing.assert_close(loss(x, y, weight), loss(x, masked))
    z, w = x[:, 0], (y > 0).long()
    binary = OHEMBinaryLoss(None, 5)
    torch.testing.assert_close(binary(z, w, weight), binary(z, w.where(weight > 0, 255)))
    torch.testing.assert_close(loss(x, y, torch.tensor([1.0, 0.0])), loss(x[:1], y[:1]))


def test_nan_propagates():
    """A NaN of a valid pixel reaches the loss, so that a gradient scaler can see it."""
    x, y = torch.randn(1, 3, 4), torch.zeros(1, 4, dtype=torch.long)
    x[0, 0, 0] = torch.nan
    assert OHEMCrossEntropyLoss(None, 2)(x, y).isnan()
    assert OHEMBinaryLoss(None, 2)(x[:, :1], y).isnan()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"thresh": 0.0}, "thresh: expected .*; got 0.0"),
        ({"thresh": 1.5}, "thresh: expected .*; got 1.5"),
        ({"min_kept": 0}, "min_kept: expected .*; got 0"),
        ({"min_kept": 1.5}, "min_kept: expected .*; got 1.5"),
        ({"min_kept": 1e5}, r"min_kept: expected an integer >= 1, or .*; got 100000.0\. For .*, write 100000\."),
    ],
)
@pytest.mark.parametrize("loss", [OHEMCrossEntropyLoss, OHEMBinaryLoss])
def test_options_out_of_range(loss, options, text):
    with pytest.raises(ConfigError, match=f"{loss.__name__}: {text}"):
        loss(**options)


def test_wrong_inputs():
    with pytest.raises(InputError, match=r"two or more classes; got \(2, 1, 4\). One channel goes to OHEMBinaryLoss"):
        OHEMCrossEntropyLoss()(torch.randn(2, 1, 4), torch.zeros(2, 4, dtype=torch.long))
    with pytest.raises(InputError, match=r"OHEMCrossEntropyLoss: expected weight of shape"):
        OHEMCrossEntropyLoss()(torch.randn(2, 3, 4), torch.zeros(2, 4, dtype=torch.long), torch.ones(4))
    with pytest.raises(InputError, match="min_kept: expected an integer >= 1, or a part > 0 and <= 1; got 0"):
        ohem_cross_entropy_loss(torch.randn(2, 3, 4), torch.zeros(2, 4, dtype=torch.long), min_kept=0)
    with pytest.raises(InputError, match="thresh: expected None or a probability > 0 and <= 1; got 2"):
        ohem_cross_entropy_loss(torch.randn(2, 3, 4), torch.zeros(2, 4, dtype=torch.long), thresh=2)


def test_weights_of_several_labels_may_be_given_by_image_or_by_pixel():
    x, target = torch.randn(2, 3, 4, 5), torch.randint(2, (2, 3, 4, 5))
    loss = OHEMBinaryLoss(min_kept=7, reduction="none")
    of_images, of_pixels = torch.tensor([0.0, 2.0]), torch.rand(2, 4, 5).round()
    for weight, whole in (
        (of_images, of_images.view(2, 1, 1, 1).expand(x.shape)),
        (of_pixels, of_pixels.unsqueeze(1).expand(x.shape)),
    ):
        torch.testing.assert_close(loss(x, target, weight=weight), loss(x, target, weight=whole))


def test_a_soft_truth_of_one_class_is_mined_by_its_own_loss():
    x, target = torch.randn(50), torch.rand(50)
    every = torch.nn.functional.binary_cross_entropy_with_logits(x, target, reduction="none")
    found = OHEMBinaryLoss(thresh=None, min_kept=12, reduction="none")(x.view(2, 25), target.view(2, 25)).flatten()
    torch.testing.assert_close(found, torch.where(every >= every.topk(12).values.min(), every, 0))


@pytest.mark.parametrize("kept", [20, 0.3])
def test_vmap(kept):
    x, y = torch.randn(3, 2, 3, 8, 9), torch.randint(2, (3, 2, 8, 9))
    for loss, pred in ((OHEMCrossEntropyLoss(None, kept), x), (OHEMBinaryLoss(None, kept), x[:, :, 0])):
        value = torch.func.vmap(loss)(pred, y)
        torch.testing.assert_close(value, torch.stack([loss(a, b) for a, b in zip(pred, y, strict=True)]))
