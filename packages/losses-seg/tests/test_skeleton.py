"""SoftClDiceLoss and SkeletonRecallLoss: skeletons by hand, the kernel, ignored pixels, the published forms, errors."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from losses_core import ConfigError, InputError, _blocks
from losses_seg import SkeletonRecallLoss, SoftClDiceLoss, _ops, _skeleton
from losses_seg._kernels.skeleton import skeleton_grad
from losses_seg._skeleton import running_skeleton, soft_skeleton, truth_skeleton
from losses_seg.functional import soft_cl_dice_loss


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def line(width=1, size=15):
    y = torch.zeros(1, size, size, dtype=torch.long)
    y[:, (size - width) // 2 : (size + width) // 2] = 1
    return y


def certain(y):
    return 40.0 * F.one_hot(y, 2).movedim(-1, 1) - 20


def published_skeleton(x, iterations):
    """By torch's pooling, as the paper's algorithm writes it, in two dimensions."""

    def erode(x):
        return torch.minimum(-F.max_pool2d(-x, (3, 1), 1, (1, 0)), -F.max_pool2d(-x, (1, 3), 1, (0, 1)))

    def opened(x):
        return F.max_pool2d(erode(x), 3, 1, 1)

    skeleton = torch.relu(x - opened(x))
    for _ in range(iterations):
        x = erode(x)
        part = torch.relu(x - opened(x))
        skeleton = skeleton + torch.relu(part - skeleton * part)
    return skeleton


@pytest.mark.parametrize("iterations", [0, 1, 4])
def test_the_skeleton_is_the_published_one(iterations):
    x = torch.rand(2, 3, 12, 14, dtype=torch.double, requires_grad=True)
    value, expected = soft_skeleton(x, None, iterations), published_skeleton(x, iterations)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(running_skeleton(x.detach(), None, iterations), expected.detach())
    direction = torch.randn_like(value)
    (got,), (want,) = (torch.autograd.grad(v, x, direction) for v in (value, expected))
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(skeleton_grad(x.detach(), direction, None, iterations), want)


@pytest.mark.parametrize("spatial", [(13,), (9, 8), (5, 6, 4), (3, 4, 3, 2)])
@pytest.mark.parametrize("ignoring", [False, True])
def test_the_kernels_gradient_is_that_of_the_definition(spatial, ignoring):
    x = torch.rand(2, 2, *spatial, dtype=torch.double)
    ignored = torch.rand(2, 1, *spatial) < 0.3 if ignoring else None
    x = (x if ignored is None else x.masked_fill(ignored, 0)).requires_grad_()
    value = soft_skeleton(x, ignored, 3)
    torch.testing.assert_close(running_skeleton(x.detach(), ignored, 3), value.detach())
    direction = torch.randn_like(value)
    if ignored is not None:
        assert not value.masked_fill(~ignored, 0).any()
        direction = direction.masked_fill(ignored, 0)
    (want,) = torch.autograd.grad(value, x, direction)
    torch.testing.assert_close(skeleton_grad(x.detach(), direction, ignored, 3), want)


def test_a_skeleton_of_bytes_is_that_of_numbers():
    y = F.avg_pool2d(torch.randn(2, 3, 30, 30), 5, 1, 2).argmax(1)
    hot = F.one_hot(y, 3).movedim(-1, 1)
    ignored = torch.rand(2, 1, 30, 30) < 0.1
    for hidden in (None, ignored):
        x = hot.float() if hidden is None else hot.float().masked_fill(hidden, 0)
        expected = running_skeleton(x, hidden, 4)
        for target in (y, hot, hot.bool()):
            assert torch.equal(truth_skeleton(hot.float(), target, hidden, 4).float(), expected)
        torch.testing.assert_close(truth_skeleton(hot.float(), hot.float(), hidden, 4), expected)


def test_a_line_is_its_own_skeleton_and_a_wide_one_has_its_middle():
    for width in (1, 3, 5):
        y = line(width)
        skeleton = truth_skeleton(torch.zeros(1, 1, 15, 15), y.unsqueeze(1), None, 10)
        assert skeleton[0, 0, 7].all()
        assert skeleton.sum() < y.sum() or width == 1
    # of a structure wider than 2k pixels, the core is lost
    assert not truth_skeleton(torch.zeros(1, 1, 15, 15), line(9).unsqueeze(1), None, 1)[0, 0, 7, 3:-3].any()


def test_a_gap_counts_more_than_width():
    y = line(3)
    gap, thin = y.clone(), line(1)
    gap[:, :, 7] = 0
    loss = SoftClDiceLoss()
    assert loss(certain(thin), y) < 1e-4
    assert loss(certain(gap), y) > 0.01


def test_padding_with_ignored_pixels_changes_nothing():
    """They are outside the image, and enter no minimum and no maximum."""
    x, y = torch.randn(2, 3, 12, 10), torch.randint(3, (2, 12, 10))
    wide_y = F.pad(y, (3, 2, 1, 4), value=255)
    wide_x = F.pad(x, (3, 2, 1, 4), value=torch.nan)
    for loss in (SoftClDiceLoss(), SkeletonRecallLoss(), SoftClDiceLoss(per_image=False, include_background=True)):
        torch.testing.assert_close(loss(wide_x, wide_y), loss(x, y))


def test_one_channel_equals_the_authors_form():
    """Sums over the batch, 10 iterations."""
    x, y = torch.randn(2, 1, 20, 20, dtype=torch.double), (torch.rand(2, 1, 20, 20) > 0.6).double()
    p = x.sigmoid()
    precision = ((published_skeleton(p, 10) * y).sum() + 1) / (published_skeleton(p, 10).sum() + 1)
    sensitivity = ((published_skeleton(y, 10) * p).sum() + 1) / (published_skeleton(y, 10).sum() + 1)
    expected = 1 - 2 * precision * sensitivity / (precision + sensitivity)
    torch.testing.assert_close(SoftClDiceLoss(per_image=False)(x, y), expected)
    torch.testing.assert_close(SoftClDiceLoss(per_image=False)(x, y.long()), expected)


def test_the_iterations_are_those_given():
    """Unlike in the authors' code, whose number is always 10."""
    x, y = torch.randn(1, 1, 20, 20), (torch.rand(1, 1, 20, 20) > 0.2).long()
    values = {SoftClDiceLoss(iterations=k)(x, y).item() for k in (0, 1, 3)}
    assert len(values) == 3


def test_nothing_over_nothing():
    empty = torch.zeros(1, 4, 4, dtype=torch.long)
    x = torch.tensor([[[[1.0]], [[0.0]]]]).expand(1, 2, 4, 4)
    loss = SoftClDiceLoss(smooth=0.0, activation="none", classes=[1])
    assert loss(x, empty) == 0  # both ratios are 1
    assert SkeletonRecallLoss(smooth=0.0, activation="none", classes=[1])(x, empty) == 0
    wrong = torch.tensor([[[[0.0]], [[1.0]]]]).expand(1, 2, 4, 4).contiguous()
    wrong[..., 0, 0] = 0
    assert loss(wrong, empty) == 1


def test_no_gradient_reaches_the_true_skeleton():
    x, g = torch.randn(1, 1, 9, 9), torch.rand(1, 1, 9, 9, requires_grad=True)
    # through the product with S(p) alone
    value = SoftClDiceLoss(iterations=1)(x, g)
    (grad,) = torch.autograd.grad(value, g)
    mine = soft_skeleton(x.sigmoid(), None, 1)
    assert torch.equal(grad == 0, mine == 0)


@pytest.mark.parametrize("block", [1, 64, 300])
def test_blocks_of_images_and_classes(block, monkeypatch):
    x, y = torch.randn(3, 4, 9, 8, requires_grad=True), torch.randint(4, (3, 9, 8))
    y[1, :3] = 255
    losses = SoftClDiceLoss(iterations=2), SkeletonRecallLoss(), SoftClDiceLoss(include_background=True)
    expected = [(v, *torch.autograd.grad(v, x)) for v in (loss(x, y) for loss in losses)]
    monkeypatch.setattr(_blocks, "CPU_BLOCK", block)
    for loss, (value, grad) in zip(losses, expected, strict=True):
        again = loss(x, y)
        torch.testing.assert_close(again, value)
        torch.testing.assert_close(torch.autograd.grad(again, x)[0], grad)


def test_tubes_stay_within_the_mask():
    y = line(7)
    value = [SkeletonRecallLoss(tube=tube, smooth=0.0)(torch.randn(1, 2, 15, 15), y) for tube in (0, 1, 20)]
    assert len({v.item() for v in value}) == 3
    x = torch.randn(1, 2, 15, 15)
    # wide enough, the tube is the mask
    p = x.softmax(1)[:, 1]
    expected = 1 - (p * y).sum() / y.sum()
    torch.testing.assert_close(SkeletonRecallLoss(tube=20, smooth=0.0)(x, y), expected)


def test_given_skeletons():
    x, y = torch.randn(2, 3, 12, 12), torch.randint(3, (2, 12, 12))
    y[0, :4] = 255
    lines = torch.randint(3, (2, 12, 12))
    hot = F.one_hot(lines, 3).movedim(-1, 1)
    p = x.softmax(1) * (y != 255).unsqueeze(1)
    expected = 1 - ((p * hot).sum((2, 3)) + 1) / ((hot * (y != 255).unsqueeze(1)).sum((2, 3)) + 1)
    loss = SkeletonRecallLoss()
    for given in (lines, lines.unsqueeze(1).to(torch.uint8), lines.to(torch.int8), hot, hot.bool(), hot.float()):
        torch.testing.assert_close(loss(x, y, skeleton=given), expected[:, 1:].mean())
    torch.testing.assert_close(SkeletonRecallLoss(include_background=True)(x, y, skeleton=hot), expected.mean())
    soft = hot.float().requires_grad_()
    x.requires_grad_()
    loss(x, y, skeleton=soft).backward()
    assert soft.grad is None
    with pytest.raises(InputError, match="SkeletonRecallLoss: skeleton: of labels, class 0 stands for no skeleton"):
        SkeletonRecallLoss(include_background=True)(x, y, skeleton=lines)
    with pytest.raises(InputError, match=r"expected skeleton of shape .*got \(2, 5, 12\)"):
        loss(x, y, skeleton=lines[:, :5])
    with pytest.raises(InputError, match=r"skeleton.*\[0, 3\).*got \d+"):
        loss(x, y, skeleton=lines + 9)
    with pytest.raises(InputError, match=r"skeleton.*got 2"):
        loss(x, y, skeleton=hot * 2)


def test_more_classes_than_a_byte_holds():
    x, y = torch.randn(1, 300, 4, 4), torch.randint(300, (1, 4, 4))
    y[0, 0, 0] = -1
    value = SkeletonRecallLoss(ignore_index=-1, classes="present")(x, y)
    keep = (y != -1).squeeze(0)
    each = [
        1 - ((x.softmax(1)[0, k] * (y[0] == k))[keep].sum() + 1) / ((y[0] == k).sum() + 1)
        for k in y[0][keep].unique()
        if k
    ]
    torch.testing.assert_close(value, torch.stack(each).mean())


def test_errors():
    for cls in (SoftClDiceLoss, SkeletonRecallLoss):
        for options in ({"iterations": -1}, {"smooth": -1.0}):
            with pytest.raises(ConfigError, match=f"{cls.__name__}: {next(iter(options))}: expected .*>= 0"):
                cls(**options)
        with pytest.raises(TypeError, match="iterations: expected an integer"):
            cls(iterations=1.5)
        with pytest.raises(InputError, match="takes no sample weight with per_image=False"):
            cls(per_image=False)(torch.randn(1, 2, 4, 4), torch.zeros(1, 4, 4).long(), weight=torch.ones(1))
    with pytest.raises(ConfigError, match="tube"):
        SkeletonRecallLoss(tube=-1)
    with pytest.raises(InputError, match="iterations: expected an integer >= 0; got -1"):
        soft_cl_dice_loss(torch.randn(1, 2, 4, 4), torch.zeros(1, 4, 4).long(), iterations=-1)
    assert np.isfinite(SoftClDiceLoss()(torch.randn(1, 2, 1, 1), torch.ones(1, 1, 1).long()).item())


@pytest.mark.parametrize("ignored", [False, True])
def test_the_operator_applies_no_empty_mask(monkeypatch: pytest.MonkeyPatch, ignored: bool) -> None:
    """A compiled loss always finds a mask; applied in every iteration, an empty one takes most of the time."""
    masks = []

    def skeleton(pred, target, mask, *_, **__):
        masks.append(mask)
        return torch.zeros(1, 1, 4, 4, dtype=torch.uint8)

    monkeypatch.setattr(_skeleton, "truth_skeleton", skeleton)
    mask = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    mask[..., 0] = ignored
    _ops.truth_skeleton_op(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4), mask, 2, 0, 2)
    assert [found is not None for found in masks] == [ignored]
