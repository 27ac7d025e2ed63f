"""SurfaceLoss: the field against scipy, its sign, spacing, given distances, absent and full classes, ignored pixels."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt

from losses_core import ConfigError, InputError
from losses_seg import SurfaceLoss
from losses_seg._distance import signed_distance
from losses_seg.functional import surface_loss


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def blobs(*shape):
    """Labels of connected regions, in which each class occurs."""
    return F.avg_pool2d(torch.randn(*shape, dtype=torch.double), 5, 1, 2).argmax(1)


def square(size=16):
    y = torch.zeros(1, size, size, dtype=torch.long)
    y[:, 4:12, 5:11] = 1
    return y


@pytest.mark.parametrize("spacing", [1.0, 0.5, [0.5, 2.0], [3.0, 0.7]])
def test_the_field_is_scipys(spacing):
    y = blobs(2, 3, 30, 20)
    steps = spacing if isinstance(spacing, list) else [spacing] * 2
    phi = signed_distance(y, 3, None, steps, torch.float64)
    for n in range(2):
        for k in range(3):
            mask = (y[n] == k).numpy()
            inside, outside = (distance_transform_edt(m, sampling=steps) for m in (mask, ~mask))
            np.testing.assert_allclose(phi[n, k], np.where(mask, min(steps) - inside, outside), atol=1e-9)
            assert phi[n, k][mask].max() == 0  # the inner rim, at every spacing
            assert phi[n, k][~mask].min() > 0


def test_spacing_scales_the_loss():
    """Below 1 mm too, where subtracting 1 would turn the sign inside."""
    x, y = torch.randn(1, 2, 16, 16), square()
    for size in (0.1, 3.0):
        torch.testing.assert_close(SurfaceLoss(spacing=size)(x, y), size * SurfaceLoss()(x, y))
        assert SurfaceLoss(spacing=size)(F.one_hot(y, 2).movedim(-1, 1) * 100.0, y) < 0


def test_the_truth_is_the_minimum():
    y = square()
    best = SurfaceLoss()(200.0 * F.one_hot(y, 2).movedim(-1, 1), y)
    assert best < 0
    for shift in (1, 3):
        assert SurfaceLoss()(200.0 * F.one_hot(y.roll(shift, 2), 2).movedim(-1, 1), y) > best


def test_given_distances():
    x, y = torch.randn(2, 3, 30, 20, requires_grad=True), blobs(2, 3, 30, 20)
    y[0, :5] = 255
    phi = signed_distance(y, 3, (y == 255).unsqueeze(1), [1.0, 1.0], torch.float32).requires_grad_()
    for options in ({}, {"classes": "present"}, {"include_background": False}):
        loss = SurfaceLoss(**options)
        torch.testing.assert_close(loss(x, y, target_dist=phi), loss(x, y))
    SurfaceLoss()(x, y, target_dist=phi).backward()
    assert phi.grad is None
    poisoned = phi.detach().masked_fill((y == 255).unsqueeze(1), torch.nan)
    torch.testing.assert_close(SurfaceLoss()(x, y, target_dist=poisoned), SurfaceLoss()(x, y))
    with pytest.raises(InputError, match=r"target_dist.*\(2, 3, 30, 20\).*got \(2, 30, 20\)"):
        SurfaceLoss()(x, y, target_dist=phi[:, 0])


def test_absent_and_full_classes_have_no_field_and_are_counted():
    x, y = torch.randn(2, 3, 16, 16), torch.cat([square(), torch.full((1, 16, 16), 2)])
    each = surface_loss(x, y)
    assert not each.value[0, 2] and not each.value[1].any()
    torch.testing.assert_close(SurfaceLoss()(x, y), each.value.mean())
    torch.testing.assert_close(SurfaceLoss(classes="present")(x, y), each.value.sum() / 3)


def test_ignored_pixels_are_no_source():
    """The nearest pixel on the other side lies behind the ignored ones, which have no distance of their own."""
    y = torch.tensor([[1, 255, 255, 0, 0]])
    phi = signed_distance(y, 2, (y == 255).unsqueeze(1), [1.0], torch.float32)
    assert phi[0].tolist() == [[3.0, 0, 0, -2, -3], [-2, 0, 0, 3, 4]]


def test_soft_targets_are_inside_above_a_half():
    x, y = torch.randn(1, 2, 16, 16), square()
    soft = F.one_hot(y, 2).movedim(-1, 1) * 0.2 + 0.4
    torch.testing.assert_close(SurfaceLoss()(x, soft), SurfaceLoss()(x, y))


def test_wrong_options():
    for spacing in (0, [1.0, -1.0], [], "1"):
        with pytest.raises(ConfigError, match="SurfaceLoss: spacing: expected a number > 0, or a list of them; got"):
            SurfaceLoss(spacing=spacing)
    with pytest.raises(TypeError, match="no parameter 'per_image'"):
        SurfaceLoss(per_image=False)
    x, y = torch.randn(1, 2, 16, 16), square()
    with pytest.raises(InputError, match=r"SurfaceLoss: spacing: .*2 of them.*got \[1.0, 1.0, 1.0\]"):
        SurfaceLoss(spacing=[1.0, 1.0, 1.0])(x, y)
    with pytest.raises(InputError, match=r"SurfaceLoss: classes: expected ids below 2"):
        SurfaceLoss(classes=[2])(x, y)
    y[0, 1, 2] = 7
    with pytest.raises(InputError, match=r"surface_loss: .*\[0, 2\).*got 7 at \[0, 1, 2\]"):
        surface_loss(x, y)


@pytest.mark.parametrize("shared", [False, True])
def test_vmap(shared):
    loss, x, y = SurfaceLoss(), torch.randn(3, 2, 3, 8, 9), torch.randint(3, (3, 2, 8, 9))
    y[:, :, 2] = 255
    value = torch.func.vmap(loss, in_dims=(0, None if shared else 0))(x, y[0] if shared else y)
    torch.testing.assert_close(value, torch.stack([loss(a, y[0] if shared else b) for a, b in zip(x, y, strict=True)]))
