"""HDLoss: the formula with scipy's distances, the masks, spacing, given distances, full and empty masks."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt

from losses_core import ConfigError, InputError
from losses_seg import HDLoss
from losses_seg.functional import hausdorff_loss


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def field(masks, spacing=None):
    """Distance to the other side, (N,C,*S), of masks that are nowhere full or empty."""
    both = [
        [distance_transform_edt(m, sampling=spacing) + distance_transform_edt(~m, sampling=spacing) for m in image]
        for image in masks.numpy()
    ]
    return torch.from_numpy(np.array(both))


def hot(y, classes):
    return F.one_hot(y, classes).movedim(-1, 1).bool()


def smooth_logits(*shape):
    return F.avg_pool2d(torch.randn(*shape, dtype=torch.double), 5, 1, 2) * 10


@pytest.mark.parametrize("alpha", [1.0, 2.0, 3.5])
@pytest.mark.parametrize("pred_mask", ["argmax", "threshold"])
@pytest.mark.parametrize("spacing", [None, [0.5, 2.0]])
@pytest.mark.parametrize("one_sided", [False, True])
def test_equals_the_formula_with_scipys_distances(alpha, pred_mask, spacing, one_sided):
    x, y = smooth_logits(2, 3, 40, 30).requires_grad_(), smooth_logits(2, 3, 40, 30).argmax(1)
    p, g = x.softmax(1), hot(y, 3)
    mask = hot(x.argmax(1), 3) if pred_mask == "argmax" else p > 0.5
    assert all(one.any() and not one.all() for m in (mask, g) for one in m.flatten(0, 1))
    weight = field(g, spacing) ** alpha
    if not one_sided:
        weight = weight + field(mask, spacing) ** alpha
    expected = ((p - g.double()) ** 2 * weight).flatten(2).mean(2)
    options = {"alpha": alpha, "pred_mask": pred_mask, "spacing": spacing, "one_sided": one_sided}
    value = HDLoss(reduction="none", **options)(x, y)
    torch.testing.assert_close(value, expected)
    # no gradient passes through the distances
    (got,), (want,) = (torch.autograd.grad(v.sum(), x) for v in (value, expected))
    torch.testing.assert_close(got, want)


def test_volume():
    x, y = torch.randn(2, 1, 6, 7, 8, dtype=torch.double), torch.randint(2, (2, 6, 7, 8))
    p, g = x.sigmoid(), y[:, None].bool()
    weight = field(g, [3.0, 1.0, 1.0]) ** 2 + field(p > 0.5, [3.0, 1.0, 1.0]) ** 2
    torch.testing.assert_close(HDLoss(spacing=[3.0, 1.0, 1.0])(x, y), ((p - y[:, None]) ** 2 * weight).mean())


def test_given_distances():
    x, y = smooth_logits(1, 2, 20, 20), smooth_logits(1, 2, 20, 20).argmax(1)
    distance = field(hot(y, 2))
    for one_sided in (False, True):
        loss = HDLoss(one_sided=one_sided)
        torch.testing.assert_close(loss(x, y, target_dist=distance), loss(x, y))
    assert HDLoss()(x, y, target_dist=2 * distance) > HDLoss()(x, y)
    with pytest.raises(InputError, match=r"target_dist.*\(1, 2, 20, 20\).*got \(1, 20, 20\)"):
        HDLoss()(x, y, target_dist=distance[:, 0])


def test_masks_without_a_contour_have_no_distance():
    """The prediction is one class everywhere, the truth another: no contour, no distance, no loss."""
    x = torch.zeros(1, 2, 5, 5)
    x[:, 0] = 9
    x.requires_grad_()
    value = HDLoss()(x, torch.ones(1, 5, 5, dtype=torch.long))
    value.backward()
    assert value == 0
    assert not x.grad.any()


def test_ignored_pixels_are_no_source():
    """The nearest pixel on the other side is behind the ignored ones."""
    y = torch.tensor([[1, 255, 255, 0, 0]])
    x = torch.tensor([[[0.0, torch.nan, torch.nan, 0.0, 0.0]]])
    value = HDLoss(one_sided=True, activation="none", reduction="none")(x, y)
    torch.testing.assert_close(value, torch.tensor([[9.0 / 3]]))  # over the three that count
    far = HDLoss(one_sided=True, activation="none", reduction="none")(
        x, torch.tensor([[1, 0, 0, 0, 0]]).where(y != 255, 255)
    )
    torch.testing.assert_close(far, value)


def test_background_is_optional():
    x, y = smooth_logits(2, 3, 20, 20), torch.randint(3, (2, 20, 20))
    each = HDLoss(reduction="none")(x, y)
    torch.testing.assert_close(HDLoss(include_background=False)(x, y), each[:, 1:].mean())


def test_wrong_options():
    for spacing in (0, [1.0, -1.0], [], "1"):
        with pytest.raises(ConfigError, match="HDLoss: spacing: expected a number > 0, or a list of them; got"):
            HDLoss(spacing=spacing)
    with pytest.raises(ConfigError, match=r"alpha: expected .*> 0.*got 0"):
        HDLoss(alpha=0)
    with pytest.raises(ConfigError, match="pred_mask: expected one of 'argmax', 'threshold'; got 'max'"):
        HDLoss(pred_mask="max")
    x, y = torch.randn(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long)
    with pytest.raises(
        InputError, match=r"HDLoss: spacing: expected a number > 0, or 2 of them.*got \[1.0, 1.0, 1.0\]"
    ):
        HDLoss(spacing=[1.0, 1.0, 1.0])(x, y)
    with pytest.raises(InputError, match="pred_mask: expected one of 'argmax', 'threshold'; got 'max'"):
        hausdorff_loss(x, y, pred_mask="max")


def test_labels_outside_the_classes_are_an_error():
    x, y = torch.randn(2, 3, 4, 5), torch.zeros(2, 4, 5, dtype=torch.long)
    y[1, 2, 3] = 7
    with pytest.raises(InputError, match=r"HDLoss: .*\[0, 3\).*got 7 at \[1, 2, 3\]"):
        HDLoss()(x, y)
    HDLoss()(x, y, ignore_index=7)
    y[1, 2, 3] = 1
    torch.testing.assert_close(HDLoss()(x, y, ignore_index=None), HDLoss()(x, y))
    with pytest.raises(InputError, match=r"hausdorff_loss: .*got 2 at \[0, 0, 0, 1\]"):
        hausdorff_loss(x[:, :1], torch.tensor([0, 2, 0, 0, 0]).expand(2, 4, 5))


@pytest.mark.parametrize("shape", [(), (4,), (4, 3)])
def test_preds_without_spatial_axes_are_an_error(shape):
    with pytest.raises(InputError, match=r"HDLoss: expected pred of shape \(N, C, \*S\)"):
        HDLoss()(torch.randn(shape), torch.zeros(shape[:1], dtype=torch.long))
    x = torch.randn(2, 3, 4, 5)
    for pred in ((x, x), {"out": x}):
        with pytest.raises(InputError, match=r"HDLoss: expected pred as .*tensor"):
            HDLoss()(pred, torch.zeros(2, 4, 5, dtype=torch.long))


@pytest.mark.parametrize("options", [{}, {"pred_mask": "threshold", "alpha": 1.5}])
@pytest.mark.parametrize("shared", [False, True])
def test_vmap(options, shared):
    loss, x, y = HDLoss(**options), torch.randn(3, 2, 3, 8, 9), torch.randint(3, (3, 2, 8, 9))
    y[:, :, 2] = 255
    value = torch.func.vmap(loss, in_dims=(0, None if shared else 0))(x, y[0] if shared else y)
    torch.testing.assert_close(value, torch.stack([loss(a, y[0] if shared else b) for a, b in zip(x, y, strict=True)]))
