"""The Jensen-Shannon cross-entropy: its equalities, extremes, memory, and several ranks."""

import math

import pytest
import torch

from losses_cls import JSDCrossEntropyLoss, LabelSmoothLoss
from losses_core import ConfigError, InputError, explain
from losses_core._memory import PeakMemory
from losses_testkit import Inputs
from losses_testkit.ranks import pool


@pytest.fixture
def given():
    torch.manual_seed(0)
    return torch.randn(12, 5, dtype=torch.float64, requires_grad=True), torch.randint(5, (4,))


def gradient(loss, x, y, **call):
    value = loss(x, y, **call)
    return value, torch.autograd.grad(value.sum(), x)[0]


def test_without_a_divergence_it_is_label_smoothing_of_the_first_split(given):
    x, y = given
    value, grad = gradient(JSDCrossEntropyLoss(alpha=0.0), x, y)
    expected, wanted = gradient(LabelSmoothLoss(), x, torch.cat([y, torch.full((8,), -100)]))
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(grad, wanted)


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_equal_splits_have_no_divergence(scale):
    torch.manual_seed(0)
    x, y = scale * torch.randn(4, 5), torch.randint(5, (4,))
    loss = JSDCrossEntropyLoss(reduction="none")
    torch.testing.assert_close(loss(x.repeat(3, 1), y), LabelSmoothLoss(reduction="none")(x, y))
    repeated = x.repeat(3, 1).requires_grad_()
    _, grad = gradient(JSDCrossEntropyLoss(), repeated, y)
    torch.testing.assert_close(grad[4:], torch.zeros(8, 5), atol=1e-6, rtol=0)


def test_the_divergence_is_exact_and_bounded():
    x = torch.tensor([[6e4, -6e4], [-6e4, 6e4]], requires_grad=True)
    for dtype in (torch.float16, torch.float32):
        value, grad = gradient(JSDCrossEntropyLoss(2, 1.0, 0.0), x.to(dtype), torch.tensor([0]))
        torch.testing.assert_close(value, torch.tensor(math.log(2)))
        assert grad.isfinite().all()


def test_a_masked_class_contributes_nothing():
    x = torch.tensor([[1.0, 2.0, -torch.inf], [0.0, 2.0, -torch.inf]], requires_grad=True)
    for reduction in ("mean", "none"):
        loss = JSDCrossEntropyLoss(2, smoothing=0.0, reduction=reduction)
        value, grad = gradient(loss, x, torch.tensor([0]))
        expected, wanted = gradient(loss, x.detach()[:, :2].clone().requires_grad_(), torch.tensor([0]))
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(grad[:, :2], wanted)
        assert not grad[:, 2].any()


def test_further_targets_do_not_count(given):
    x, y = given
    assert torch.equal(JSDCrossEntropyLoss()(x, torch.cat([y, torch.full((8,), 77)])), JSDCrossEntropyLoss()(x, y))


def test_weights_of_samples_and_of_positions():
    torch.manual_seed(0)
    x, y = torch.randn(6, 3, 4, dtype=torch.float64, requires_grad=True), torch.randint(3, (2, 4))
    weight = torch.rand(2, 4, dtype=torch.float64)
    weight[0, 1] = 0
    loss = JSDCrossEntropyLoss()
    value, grad = gradient(loss, x, y, weight=weight)
    torch.testing.assert_close(value, (weight * loss(x, y, reduction_override="none")).sum() / 8)
    poisoned = x.detach().clone()
    poisoned[::2, :, 1] = float("nan")  # position 1 of sample 0, in all splits
    value, again = gradient(loss, poisoned.requires_grad_(), y, weight=weight)
    assert value.isfinite()
    torch.testing.assert_close(again, grad)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_peak_memory(dtype):
    rows = (1 << 28) // torch.empty((), dtype=dtype).element_size() // 3000 * 3
    x = torch.empty(rows, 1000, dtype=dtype, device="meta", requires_grad=True)
    y = torch.empty(rows // 3, dtype=torch.long, device="meta")
    with PeakMemory() as memory:
        JSDCrossEntropyLoss()(x, y).backward()
    assert memory.peak <= 1.5 * x.numel() * x.element_size()


@pytest.mark.parametrize("sizes", [(3, 2), (5, 0), (2, 0, 3)], ids=str)
@pytest.mark.parametrize("compiled", [False, True])
def test_several_ranks_equal_one_process(sizes, compiled):
    torch.manual_seed(0)
    x, y = torch.randn(3, 5, 4, dtype=torch.float64), torch.randint(4, (5,))
    y[1] = -100
    value, grad = gradient(JSDCrossEntropyLoss(), x.flatten(0, 1).requires_grad_(), y)
    config = JSDCrossEntropyLoss(sync_dist=True).to_config()
    jobs = [
        {
            "config": config,
            "state": {},
            "inputs": Inputs(pred.flatten(0, 1), target),
            "keywords": {},
            "compiled": compiled,
        }
        for pred, target in zip(x.split(sizes, 1), y.split(sizes), strict=True)
    ]
    results = pool().run("losses_testkit.jobs:run_loss", jobs)
    for result in results:
        torch.testing.assert_close(result["value"], value, rtol=0, atol=1e-12)
    parts = [result["pred"][0].unflatten(0, (3, size)) for result, size in zip(results, sizes, strict=True)]
    torch.testing.assert_close(torch.cat(parts, 1).flatten(0, 1) / len(sizes), grad, rtol=0, atol=1e-12)


def test_the_kernel_runs(given):
    assert "jsd_cross_entropy_kernel" in explain(JSDCrossEntropyLoss(), *given)


def test_errors(given):
    x, y = given
    loss = JSDCrossEntropyLoss()
    for pred, target, text in (
        (x[:10], y[:3], r"expected pred with num_splits=3 parts .* got \(10, 5\), and 3 does not divide 10"),
        (x, y[:3], r"expected target of shape \(4,\) or \(12,\) for pred \(12, 5\); got \(3,\)"),
        (x, y.double(), "expected target with class indices"),
        (x[:, 0], y, r"expected pred of shape \(num_splits·B, C, \*S\); got \(12,\)"),
        (x, y + 5, r"expected target with class indices in \[0, 5\)"),
    ):
        with pytest.raises(InputError, match=f"JSDCrossEntropyLoss: {text}"):
            loss(pred, target)
    for options, text in (
        ({"num_splits": 1}, "num_splits: expected an integer >= 2; got 1"),
        ({"alpha": -1}, "alpha: expected a number >= 0; got -1"),
        ({"smoothing": 1.0}, "smoothing: expected a number >= 0 and < 1"),
    ):
        with pytest.raises(ConfigError, match=text):
            JSDCrossEntropyLoss(**options)
    with pytest.raises(InputError, match="num_splits: expected an integer >= 2"):
        JSDCrossEntropyLoss.function(x, y, num_splits=1)
