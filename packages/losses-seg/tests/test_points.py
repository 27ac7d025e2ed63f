"""PointMaskLoss: samples against grid_sample, the sequence of draws, ignored pixels, any resolution, no masks."""

import pytest
import torch
import torch.nn.functional as F

from losses_core import ConfigError, InputError
from losses_core.kernels import explain, use_definitions
from losses_seg import PointMaskLoss
from losses_seg._points import draw_points, read_points
from losses_seg.functional import point_mask_loss


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def by_grid_sample(maps, coords):
    return F.grid_sample(maps.unsqueeze(1), 2 * coords.unsqueeze(2) - 1, align_corners=False)[:, 0, :, 0]


@pytest.mark.parametrize("shape", [(8, 12), (1, 1), (5, 1)])
def test_samples_are_those_of_grid_sample(shape):
    x = torch.randn(3, *shape, dtype=torch.double, requires_grad=True)
    coords = torch.cat([torch.rand(3, 40, 2).double(), torch.tensor([[0.0, 0], [1, 1], [0, 1]]).expand(3, 3, 2)], 1)
    value, expected = read_points(x, coords), by_grid_sample(x, coords)
    torch.testing.assert_close(value, expected)
    direction = torch.randn_like(value)
    (got,), (want,) = (torch.autograd.grad(v, x, direction) for v in (value, expected))
    torch.testing.assert_close(got, want)


def as_published(logits, points, oversample, importance):
    """Uncertain points as PointRend and Mask2Former draw them."""
    number, sampled = len(logits), int(points * oversample)
    coords = torch.rand(number, sampled, 2)
    kept = int(importance * points)
    index = torch.topk(-by_grid_sample(logits, coords).abs(), kept, dim=1).indices
    chosen = torch.stack([c[i] for c, i in zip(coords, index, strict=True)])
    if points - kept:
        chosen = torch.cat([chosen, torch.rand(number, points - kept, 2)], 1)
    return chosen


@pytest.mark.parametrize(("points", "oversample", "importance"), [(50, 3.0, 0.75), (7, 2.5, 1.0), (9, 1.0, 0.0)])
def test_a_seed_gives_the_published_points(points, oversample, importance):
    x, y = torch.randn(4, 16, 20), (torch.rand(4, 32, 40) > 0.5).float()
    torch.manual_seed(3)
    expected = as_published(x, points, oversample, importance)
    torch.manual_seed(3)
    options = {"points": points, "oversample": oversample, "importance": importance}
    drawn = draw_points(x, y, None, **options, generator=None)
    assert torch.equal(drawn, expected)
    loss = PointMaskLoss(**options)
    torch.manual_seed(3)
    value = loss(x, y)
    torch.testing.assert_close(value, loss(x, y, point_coords=expected))
    torch.testing.assert_close(value, loss.eval()(x, y, generator=torch.Generator().manual_seed(3)))
    assert loss(x, y) != value


def test_equals_the_published_loss():
    """BCE by torch, Dice by its formula, at points by grid_sample."""
    x = torch.randn(4, 1, 16, 20, dtype=torch.double, requires_grad=True)
    y, coords = (torch.rand(4, 32, 40) > 0.5).double(), torch.rand(4, 30, 2).double()
    logits, labels = by_grid_sample(x[:, 0], coords), by_grid_sample(y, coords)
    bce = F.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(1)
    p = logits.sigmoid()
    dice = 1 - (2 * (p * labels).sum(1) + 1) / (p.sum(1) + labels.sum(1) + 1)
    expected = (5 * bce + 2 * dice).sum() / 3
    value = PointMaskLoss(bce_weight=5.0, dice_weight=2.0)(x, y, point_coords=coords, avg_factor=3)
    torch.testing.assert_close(value, expected)
    (got,), (want,) = (torch.autograd.grad(v, x) for v in (value, expected))
    torch.testing.assert_close(got, want)


def test_points_lie_where_the_mask_is_uncertain():
    x = torch.full((1, 32, 32), 9.0)
    x[..., :16] = -9
    coords = draw_points(x, x.sigmoid(), None, points=100, oversample=3.0, importance=0.75, generator=None)
    assert ((coords[:, :75, 0] - 0.5).abs() < 1 / 64).float().mean() > 0.05
    certain = read_points(x, coords).abs()
    assert certain[:, :75].amax() <= read_points(x, torch.rand(1, 1000, 2)).abs().amax()
    assert certain[:, :5].amax() < 9


def test_ignored_pixels_rank_last():
    """No candidate that touches an ignored pixel is kept while there are others."""
    y = torch.zeros(1, 8, 8)
    y[..., 4:] = 255
    x = torch.randn(1, 8, 8).masked_fill(y == 255, 0)  # most uncertain
    drawn = draw_points(x, y, 255, points=60, oversample=4.0, importance=0.5, generator=None)
    assert (drawn[:, :30, 0] <= 3.5 / 8).all()
    loss = PointMaskLoss(points=60, ignore_index=255)
    torch.manual_seed(1)
    value = loss(x, y)
    torch.manual_seed(1)
    torch.testing.assert_close(loss(x.masked_fill(y == 255, torch.nan), y), value)
    assert loss(x, torch.full_like(y, 255)) == 0
    each = point_mask_loss(x.expand(2, -1, -1), torch.cat([y, torch.full_like(y, 255)]), points=20, ignore_index=255)
    assert each.normalizer.tolist() == [True, False]


def test_no_masks():
    x = torch.zeros(0, 8, 8, requires_grad=True)
    value = PointMaskLoss()(x, torch.zeros(0, 16, 16))
    value.backward()
    assert value == 0
    assert x.grad.shape == x.shape


def test_masks_of_any_dtype():
    x, y = torch.randn(3, 8, 8), torch.rand(3, 16, 16) > 0.5
    coords = torch.rand(3, 20, 2)
    expected = PointMaskLoss()(x, y.float(), point_coords=coords)
    for dtype in (torch.bool, torch.uint8, torch.int64, torch.float64):
        torch.testing.assert_close(PointMaskLoss()(x, y.to(dtype), point_coords=coords), expected)


# a warning of torch's own tracer
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_a_compiler_draws():
    x, y = torch.randn(3, 8, 8, requires_grad=True), (torch.rand(3, 16, 16) > 0.5).float()
    loss = PointMaskLoss(points=200)
    value = torch.compile(loss, fullgraph=True, backend="aot_eager")(x, y)
    torch.testing.assert_close(value, loss(x, y), rtol=0.2, atol=0)
    value.backward()
    assert x.grad.isfinite().all()


def test_blocks_of_masks_change_nothing(monkeypatch):
    from losses_core import _blocks

    x, y = torch.randn(5, 8, 8), (torch.rand(5, 16, 16) > 0.5).float()
    loss = PointMaskLoss(points=40)
    torch.manual_seed(2)
    expected = loss(x, y)
    monkeypatch.setattr(_blocks, "CPU_BLOCK", 1)
    torch.manual_seed(2)
    torch.testing.assert_close(loss(x, y), expected)
    assert "losses_seg._kernels.points" in explain(loss, x, y)
    torch.manual_seed(2)
    with use_definitions():
        torch.testing.assert_close(loss(x, y), expected)


def test_errors():
    x, y = torch.randn(3, 8, 8), torch.rand(3, 16, 16)
    loss = PointMaskLoss()
    with pytest.raises(InputError, match=r"PointMaskLoss: expected pred of shape \(M, H, W\) or \(M, 1, H, W\)"):
        loss(x.unsqueeze(1).expand(3, 2, 8, 8), y)
    with pytest.raises(InputError, match=r"expected target with 3 masks, as pred has; got \(2, 16, 16\)"):
        loss(x, y[:2])
    with pytest.raises(InputError, match=r"expected point_coords of shape \(3, 7, 2\)"):
        loss(x, y, point_coords=torch.rand(2, 7, 2))
    with pytest.raises(InputError, match=r"point_coords.*\[0, 1\].*got 20"):
        loss(x, y, point_coords=torch.full((3, 7, 2), 20.0))
    with pytest.raises(InputError, match=r"target.*got 2"):
        loss(x, y + 2)
    for options in ({"points": 0}, {"oversample": 0.5}, {"importance": 1.5}, {"bce_weight": -1.0}, {"smooth": -1.0}):
        with pytest.raises(ConfigError, match=f"PointMaskLoss: {next(iter(options))}: expected"):
            PointMaskLoss(**options)
