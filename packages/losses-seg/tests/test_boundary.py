"""BoundaryLoss: absent classes, the tolerance, the window against max_pool, and its options."""

import pytest
import torch
import torch.nn.functional as F

from losses_core import ConfigError, InputError, _blocks
from losses_core.kernels import use_definitions
from losses_seg import BoundaryLoss
from losses_seg._kernels.boundary import ContourSums, PooledContourSums
from losses_seg._window import max_pool, max_pool_grad, window_max, window_max_grad
from losses_seg.functional import boundary_loss


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def square(top, left, side=6, size=16):
    y = torch.zeros(1, size, size, dtype=torch.long)
    y[:, top : top + side, left : left + side] = 1
    return y


def certain(y, classes=2):
    return 200.0 * F.one_hot(y, classes).movedim(-1, 1) - 100


def test_by_max_pool():
    """The formula of the paper, with torch's own pooling and autograd."""
    x = torch.randn(2, 3, 9, 8, dtype=torch.double, requires_grad=True)
    y = torch.randint(3, (2, 9, 8))
    p, g = x.softmax(1), F.one_hot(y, 3).movedim(-1, 1).double()

    def contour(m):
        return F.max_pool2d(1 - m, 3, 1, 1) - (1 - m)

    b_p, b_g = contour(p), contour(g)
    precision = (b_p * F.max_pool2d(b_g, 5, 1, 2)).sum((2, 3)) / b_p.sum((2, 3))
    recall = (b_g * F.max_pool2d(b_p, 5, 1, 2)).sum((2, 3)) / b_g.sum((2, 3))
    expected = (1 - 2 * precision * recall / (precision + recall)).mean()
    value = BoundaryLoss()(x, y)
    torch.testing.assert_close(value, expected)
    (got,), (want,) = (torch.autograd.grad(v, x) for v in (value, expected))
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("shape", [(9,), (9, 7), (5, 6, 7)])
@pytest.mark.parametrize("size", [3, 5])
def test_the_window_is_max_pool(shape, size):
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(shape) - 1]
    x = torch.randn(2, 3, *shape, requires_grad=True)
    expected = pool(x, size, 1, size // 2)
    assert torch.equal(window_max(x.detach(), size), expected)
    grad = torch.randn_like(expected)
    (wanted,) = torch.autograd.grad(expected, x, grad)
    for function in (window_max_grad, max_pool_grad):
        torch.testing.assert_close(function(x.detach(), size, grad.clone()), wanted)


@pytest.mark.parametrize("shape", [(9,), (9, 7), (5, 6, 7)])
def test_of_equal_maxima_the_first_gets_the_gradient(shape):
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(shape) - 1]
    x = torch.randint(3, (2, 3, *shape)).float().requires_grad_()
    expected = pool(x, 5, 1, 2)
    grad = torch.randn_like(expected)
    (wanted,) = torch.autograd.grad(expected, x, grad)
    for function in (window_max_grad, max_pool_grad):
        torch.testing.assert_close(function(x.detach(), 5, grad.clone()), wanted)


def test_windows_of_four_axes():
    x = torch.randn(2, 3, 4, 5, 6, 7)
    assert torch.equal(max_pool(x, 3), window_max(x, 3))
    y = torch.randint(3, (2, 4, 5, 6, 7))
    expected = BoundaryLoss()(x, y)
    with use_definitions():
        torch.testing.assert_close(BoundaryLoss()(x, y), expected)


@pytest.mark.parametrize("spatial", [(40,), (40, 3), (40, 3, 4)])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
@pytest.mark.parametrize("dense", [False, True])
def test_pooling_and_lines_give_the_same(spatial, activation, dense, monkeypatch):
    """The kernels of accelerators and of the CPU, in slabs of a few rows and one class at a time."""
    monkeypatch.setattr(_blocks, "CPU_BLOCK", 1)
    x, y = torch.rand(2, 3, *spatial), torch.randint(3, (2, *spatial))
    target = F.one_hot(y, 3).movedim(-1, 1).float() if dense else y.masked_fill(y == 0, 255)
    options = {"theta0": 3, "theta": 5, "ignore_index": None if dense else 255, "activation": activation}
    grads = torch.randn(2, 4, 3)
    for function, arguments in (("forward", (x, target)), ("backward", (x, target, grads))):
        lines, pooled = (
            getattr(kernel, function)(*arguments, **options) for kernel in (ContourSums, PooledContourSums)
        )
        torch.testing.assert_close(pooled, lines)


@pytest.mark.parametrize("shift", [0, 1, 2, 4])
def test_tolerance(shift):
    """Contours that lie within the window agree; farther ones do not."""
    value = BoundaryLoss(theta=5, classes=[1])(certain(square(4, 4 + shift)), square(4, 4))
    assert (value < 1e-5) == (shift <= 2)
    assert BoundaryLoss(theta=9, classes=[1])(certain(square(4, 4 + shift)), square(4, 4)) < 1e-5


def test_absent_classes_are_skipped():
    x, y = torch.randn(2, 4, 16, 16), torch.cat([square(3, 3), 2 * square(5, 5)])
    each = BoundaryLoss(reduction="none", classes="all")(x, y)
    assert each[0, 2:].tolist() == [1.0, 1.0]  # as the original counts them
    counted = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0]]).bool()
    torch.testing.assert_close(BoundaryLoss()(x, y), each[counted].mean())
    torch.testing.assert_close(BoundaryLoss(classes=[1, 3])(x, y), each[0, 1])
    torch.testing.assert_close(BoundaryLoss(classes="all")(x, y), each.mean())
    unreduced = boundary_loss(x, y)
    assert torch.equal(unreduced.normalizer.bool(), counted)
    assert not unreduced.value[~counted].any()


def test_a_class_that_fills_the_image_has_no_boundary():
    x = torch.randn(1, 3, 8, 8, requires_grad=True)
    value = BoundaryLoss()(x, torch.ones(1, 8, 8, dtype=torch.long))
    value.backward()
    assert value == 0
    assert not x.grad.any()


def test_uniform_logits_give_no_gradient():
    x = torch.zeros(1, 2, 16, 16, requires_grad=True)
    value = BoundaryLoss()(x, square(4, 4))
    value.backward()
    assert value == 1
    assert not x.grad.any()


def test_an_ignored_border_is_no_boundary():
    """The edge between a class and what is ignored belongs to no contour, of truth or of prediction."""
    y = square(4, 4)
    masked = torch.where(y == 1, y, 255)
    x = torch.randn(1, 2, 16, 16)
    assert BoundaryLoss()(x, masked) == 0  # one class is left: no boundary
    y[:, :, 12:] = 255
    poisoned = x.clone()
    poisoned[..., 12:] = torch.nan
    torch.testing.assert_close(BoundaryLoss()(poisoned, y), BoundaryLoss()(x[..., :12], y[..., :12]))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"theta0": 4}, "theta0: expected an odd integer, the side of a window; got 4"),
        ({"theta": 6}, "theta: expected an odd integer, the side of a window; got 6"),
        ({"theta0": 1}, "theta0: expected .*3.*; got 1"),
        ({"theta0": 7}, "theta: expected an odd integer >= theta0=7; got 5"),
        ({"classes": "none"}, "classes: expected one of 'all', 'present'"),
    ],
)
def test_options_out_of_range(options, text):
    with pytest.raises(ConfigError, match=text):
        BoundaryLoss(**options)


def test_the_function_checks_its_windows():
    with pytest.raises(InputError, match="theta: expected an odd integer >= 3; got 4"):
        boundary_loss(torch.randn(1, 2, 5), torch.zeros(1, 5, dtype=torch.long), theta=4)


def test_labels_outside_the_classes_are_an_error():
    x, y = torch.randn(2, 3, 4, 5), torch.zeros(2, 4, 5, dtype=torch.long)
    y[1, 2, 3] = 7
    with pytest.raises(InputError, match=r"BoundaryLoss: .*\[0, 3\).*got 7 at \[1, 2, 3\]"):
        BoundaryLoss()(x, y)
    BoundaryLoss()(x, y, ignore_index=7)
    y[1, 2, 3] = 1
    torch.testing.assert_close(BoundaryLoss()(x, y, ignore_index=None), BoundaryLoss()(x, y))
    with pytest.raises(InputError, match=r"boundary_loss: .*got 2 at \[0, 0, 0, 1\]"):
        boundary_loss(x[:, :1], torch.tensor([0, 2, 0, 0, 0]).expand(2, 4, 5))


@pytest.mark.parametrize("shape", [(), (4,), (4, 3)])
def test_preds_without_spatial_axes_are_an_error(shape):
    with pytest.raises(InputError, match=r"BoundaryLoss: expected pred of shape \(N, C, \*S\)"):
        BoundaryLoss()(torch.randn(shape), torch.zeros(shape[:1], dtype=torch.long))
    x = torch.randn(2, 3, 4, 5)
    for pred in ((x, x), {"out": x}):
        with pytest.raises(InputError, match=r"BoundaryLoss: expected pred as .*tensor"):
            BoundaryLoss()(pred, torch.zeros(2, 4, 5, dtype=torch.long))
