"""Kernels against definitions and torch, at every size and at extreme logits."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from losses_cls import (
    BinaryCrossEntropyLoss,
    BinaryFocalLoss,
    CrossEntropyLoss,
    FocalLoss,
    LabelSmoothLoss,
    SoftCrossEntropyLoss,
)
from losses_core.kernels import explain, use_definitions

SIZES = [(3, 5), (2, 5, 4, 3), (200, 100), (0, 5)]  # torch's own operator is not used for the third


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def agree(loss, x, target, rtol=1e-12, **call):
    def run():
        pred = x.clone().requires_grad_()
        value = loss(pred, target, **call)
        incoming = torch.linspace(1, 2, value.numel(), dtype=value.dtype).reshape(value.shape)
        return value.detach(), torch.autograd.grad(value, pred, incoming)[0]

    actual = run()
    with use_definitions():
        expected = run()
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=rtol / 100, equal_nan=True)
    return actual


LOSSES = {
    "cross-entropy": lambda c, **o: CrossEntropyLoss(ignore_index=255, **o),
    "class weight": lambda c, **o: CrossEntropyLoss(torch.linspace(0, 2, c), ignore_index=255, **o),
    "smoothing": lambda c, **o: LabelSmoothLoss(0.2, ignore_index=255, **o),
    "smoothing and weight": lambda c, **o: LabelSmoothLoss(0.2, None, torch.linspace(1, 2, c), ignore_index=255, **o),
    "focal": lambda c, **o: FocalLoss(gamma=1.5, ignore_index=255, **o),
    "focal weight": lambda c, **o: FocalLoss(
        torch.linspace(0.1, 1, c), 2.0, torch.linspace(1, 2, c), ignore_index=255, **o
    ),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_labels(name, size, ignored, reduction):
    x, labels = 3 * torch.randn(size, dtype=torch.float64), torch.randint(size[1], (size[0], *size[2:]))
    if ignored:
        ignored_labels = torch.rand(labels.shape) < 0.3
        labels = labels.masked_fill(ignored_labels, 255)
        x = x.masked_fill(ignored_labels.unsqueeze(1), float("nan"))
    _, gradient = agree(LOSSES[name](size[1], reduction=reduction), x, labels)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("scale", [100, 1e4])
def test_labels_whose_probability_underflows(name, scale):
    x, labels = scale * torch.randn(300, 60), torch.randint(60, (300,))
    value, gradient = agree(LOSSES[name](60), x, labels, rtol=1e-5)
    assert value.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("offset", [-80, 40, 80])
def test_a_gradient_is_precise_where_its_scale_is_small(offset):
    x, labels = torch.randn(100, 100) + offset, torch.randint(100, (100,))
    for loss, target in ((CrossEntropyLoss(), labels), (SoftCrossEntropyLoss(), F.one_hot(labels, 100).float())):
        found = []
        for dtype in (torch.float32, torch.float64):
            pred = x.to(dtype, copy=True).requires_grad_()
            loss(pred, target.to(dtype) if target.is_floating_point() else target, avg_factor=1e9).backward()
            found.append(pred.grad.double() * 1e9)
        torch.testing.assert_close(*found, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("size", [(3, 4), (150, 120)], ids=str)
def test_second_derivative_of_labels(name, size):
    labels = torch.randint(size[1], (size[0],))
    labels[0] = 255
    second_derivative_agrees(LOSSES[name](size[1]), torch.randn(size, dtype=torch.float64), labels)


def second_derivative_agrees(loss, x, target):
    def run():
        pred = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(pred, target), pred, create_graph=True)
        along = torch.linspace(-1, 1, x.numel(), dtype=x.dtype).reshape(x.shape)
        return torch.autograd.grad((gradient * along).sum(), pred)[0]

    actual = run()
    with use_definitions():
        expected = run()
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", [*LOSSES, "distributions", "binary"])
def test_a_gradient_of_a_graph_that_is_kept_may_be_written_into(name):
    x, labels = torch.randn(200, 100, requires_grad=True), torch.randint(100, (200,))
    truth = F.one_hot(labels, 100).float()
    others = {"distributions": SoftCrossEntropyLoss(), "binary": BinaryCrossEntropyLoss()}
    value = others[name](x, truth) if name in others else LOSSES[name](100)(x, labels)
    value.backward(retain_graph=True)
    expected = x.grad.clone()
    x.grad.zero_()
    value.backward()
    assert torch.equal(x.grad, expected)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_distributions(size, reduction):
    x, q = 3 * torch.randn(size, dtype=torch.float64), torch.rand(size, dtype=torch.float64)
    agree(SoftCrossEntropyLoss(reduction=reduction), x, q, rtol=1e-10)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("kind", ["large", "underflow", "-inf where q is 0", "-inf where q is not", "nan", "inf"])
def test_distributions_at_extreme_logits(kind, reduction):
    x, q = torch.randn(4, 6, dtype=torch.float64), torch.rand(4, 6, dtype=torch.float64).softmax(1)
    match kind:
        case "large":
            x = x * 6e4
        case "underflow":
            x[1, 0] = -1e4
        case "-inf where q is 0":
            x[1, 2], q[1, 2] = -torch.inf, 0
        case "-inf where q is not":
            x[1, 2] = -torch.inf
        case _:
            x[1, 2] = float(kind)
    agree(SoftCrossEntropyLoss(reduction=reduction), x, q, rtol=1e-10)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_small_loss_of_distributions_is_precise(reduction):
    x, labels = torch.randn(300, 100), torch.randint(100, (300,))
    x[range(300), labels] += 14
    q = F.one_hot(labels, 100).float()
    value = SoftCrossEntropyLoss(reduction=reduction)(x, q)
    expected = SoftCrossEntropyLoss(reduction=reduction)(x.double(), q.double())
    assert expected.max() < 0.01
    # the sum of the exponentials is near 1, and so exact to a few of its last digits
    torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=3 * torch.finfo().eps)


def test_distributions_that_sum_to_zero_and_second_derivative():
    x, q = torch.randn(3, 4, dtype=torch.float64), torch.rand(3, 4, dtype=torch.float64)
    q[1] = 0
    agree(SoftCrossEntropyLoss(), x, q)
    second_derivative_agrees(SoftCrossEntropyLoss(), x, q)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("loss", [BinaryCrossEntropyLoss, partial(BinaryFocalLoss, gamma=0.0)])
def test_a_small_binary_loss_is_precise(loss, reduction):
    t = (torch.rand(20_000) < 0.5).float()
    x = (2 * t - 1) * 12 + torch.randn(20_000)
    found = []
    for dtype in (torch.float32, torch.float64):
        pred = x.to(dtype, copy=True).requires_grad_()
        value = loss(reduction=reduction)(pred, t.to(dtype))
        found.append((value.detach().double(), torch.autograd.grad(value.sum(), pred)[0].double()))
    (value, gradient), (expected, wanted) = found
    assert expected.max() < 0.01
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient / wanted.abs().max(), wanted / wanted.abs().max(), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("loss_weight", [0.7, 0.0])
def test_binary_sums_and_their_second_derivative(loss_weight):
    x, t = 3 * torch.randn(2, 150_001, dtype=torch.float64), torch.rand(2, 150_001, dtype=torch.float64)
    loss = BinaryCrossEntropyLoss(loss_weight=loss_weight)
    agree(loss, x, t)
    second_derivative_agrees(loss, x, t)
    assert loss(x, t) == loss(x.clone().requires_grad_(), t)


@pytest.mark.parametrize("number", [10, 20_000, 300_000])
@pytest.mark.parametrize("pos_weight", [None, 2.0])
def test_binary_cross_entropy_equals_torch(number, pos_weight):
    x, t = 3 * torch.randn(number, dtype=torch.float64), (torch.rand(number) < 0.3).double()
    x.requires_grad_()
    weight = None if pos_weight is None else torch.tensor(pos_weight, dtype=torch.float64)
    ours = BinaryCrossEntropyLoss(pos_weight)(x, t)
    theirs = F.binary_cross_entropy_with_logits(x, t, pos_weight=weight)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(value, x)[0] for value in (ours, theirs)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ignored", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("loss", [CrossEntropyLoss(), BinaryCrossEntropyLoss()], ids=["labels", "binary"])
def test_the_mean_of_a_small_input(loss, ignored, dtype):
    x = torch.randn(6, 5, dtype=dtype)
    target = torch.randint(5, (6,)) if isinstance(loss, CrossEntropyLoss) else torch.rand(6, 5, dtype=dtype)
    invalid = torch.rand(target.shape) < ignored
    target = target.masked_fill(invalid, -100)
    x = x.masked_fill(invalid.unsqueeze(1) if target.ndim < x.ndim else invalid, torch.nan)
    assert "torch's own operator" in explain(loss, x, target)
    value, gradient = agree(loss, x, target, rtol=1e-5 if dtype == torch.float32 else 1e-12)
    assert value.isfinite()
    assert gradient.isfinite().all()
    assert value.dtype == dtype
