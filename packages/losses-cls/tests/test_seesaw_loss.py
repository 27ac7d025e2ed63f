"""The seesaw loss: its counts in every mode, its equalities and extremes."""

import copy

import pytest
import torch

from losses_cls import CrossEntropyLoss, SeesawLoss
from losses_cls.functional import cross_entropy, seesaw_loss
from losses_core import ConfigError, InputError, explain
from losses_testkit import Inputs
from losses_testkit.ranks import pool


@pytest.fixture
def given():
    torch.manual_seed(0)
    return 2 * torch.randn(8, 3, dtype=torch.float64, requires_grad=True), torch.tensor([0, 0, 0, 0, 1, 1, 2, -100])


def gradient(loss, x, y):
    value = loss(x, y)
    return value, torch.autograd.grad(value.sum(), x)[0]


def test_the_batch_is_counted_before_its_loss(given):
    x, y = given
    x = x.detach().requires_grad_()
    loss = SeesawLoss(3, reduction="none")
    value, _ = gradient(loss, x, y)
    assert loss.class_counts.tolist() == [4, 2, 1]
    torch.testing.assert_close(value, seesaw_loss(x, y, counts=torch.tensor([4, 2, 1])).value)
    loss(x, y)
    assert loss.class_counts.tolist() == [8, 4, 2]


def test_nothing_is_counted_in_eval_mode(given):
    x, y = given
    loss = SeesawLoss(3)
    loss(x, y)
    expected = loss.eval()(x, y)
    assert loss.class_counts.tolist() == [4, 2, 1]
    torch.testing.assert_close(loss(x, y), expected)
    assert loss.train()(x, y) == expected  # twice the counts, the same ratios


def test_counting_goes_on_beyond_float32(given):
    x, y = given
    loss = SeesawLoss(3)
    loss.class_counts[0] = 1 << 24
    loss(x, y)
    assert loss.class_counts[0] == (1 << 24) + 4
    assert loss.half().class_counts.dtype == torch.int64


def test_the_counts_are_the_state(given):
    x, y = given
    loss = SeesawLoss(3)
    loss(x, y)
    assert {name: tensor.tolist() for name, tensor in loss.state_dict().items()} == {"class_counts": [4, 2, 1]}
    twin = SeesawLoss(3)
    twin.load_state_dict(loss.state_dict())
    torch.testing.assert_close(twin.eval()(x, y), loss.eval()(x, y))
    assert copy.deepcopy(loss).class_counts.tolist() == [4, 2, 1]


def test_a_batch_may_be_counted_before_the_backward_of_another(given):
    x, y = given
    x = x.detach().requires_grad_()
    _, expected = gradient(SeesawLoss(3), x, y)
    loss = SeesawLoss(3)
    value = loss(x, y)
    loss(x, torch.full((8,), 2))
    torch.testing.assert_close(torch.autograd.grad(value, x)[0], expected)


def test_a_call_that_fails_counts_nothing(given):
    x, y = given
    loss = SeesawLoss(3)
    for pred, target in ((x, y + 1), (x[:, :2], y), (x, y[:4]), (x, x)):
        with pytest.raises(InputError):
            loss(pred, target)
    assert not loss.class_counts.any()


def test_many_labels_are_counted_in_parts(monkeypatch):
    import losses_cls.seesaw_loss as module

    monkeypatch.setattr(module, "_LABELS_AT_ONCE", 7)
    y = torch.randint(-1, 4, (50,), generator=torch.Generator().manual_seed(0))
    loss = SeesawLoss(4, ignore_index=-1)
    loss(torch.zeros(50, 4), y)
    assert loss.class_counts.tolist() == y[y >= 0].bincount(minlength=4).tolist()


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_without_exponents_it_is_the_cross_entropy(given, reduction):
    x, y = given
    x = x.detach().requires_grad_()
    ours = gradient(SeesawLoss(3, 0, 0, reduction=reduction), x, y)
    torch.testing.assert_close(ours, gradient(CrossEntropyLoss(reduction=reduction), x, y))


def test_a_rare_class_is_pushed_down_less():
    x, y, counts = torch.zeros(1, 2, requires_grad=True), torch.tensor([0]), torch.tensor([1000, 10])
    for exponent, share in ((0.0, 1.0), (1.0, 0.01)):
        value = seesaw_loss(x, y, counts=counts, p=exponent, q=0.0).value
        torch.testing.assert_close(value, torch.tensor([1 + share]).log())
    frequent = seesaw_loss(x, 1 - y, counts=counts, p=1.0, q=0.0).value
    torch.testing.assert_close(frequent, cross_entropy(x, 1 - y).value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_extremes(dtype):
    x = torch.tensor([[6e4, -6e4, 0.0], [-6e4, 6e4, 6e4]], dtype=dtype, requires_grad=True)
    for label in range(3):
        value, grad = gradient(SeesawLoss(3), x, torch.full((2,), label))
        assert value.isfinite()
        assert grad.isfinite().all()


@pytest.mark.parametrize("compiled", [False, True])
def test_all_ranks_end_with_the_counts_of_one_process(given, compiled):
    x, y = given
    loss = SeesawLoss(3)
    value = loss(x, y)
    jobs = [
        {
            "config": SeesawLoss(3, sync_dist=True).to_config(),
            "state": SeesawLoss(3).state_dict(),
            "inputs": Inputs(pred, target),
            "keywords": {},
            "compiled": compiled,
        }
        for pred, target in zip(x.detach().split((6, 0, 2)), y.split((6, 0, 2)), strict=True)
    ]
    for result in pool().run("losses_testkit.jobs:run_loss", jobs):
        assert result["state"]["class_counts"].tolist() == loss.class_counts.tolist()
        torch.testing.assert_close(result["value"], value.detach(), rtol=0, atol=1e-12)


# torch's own tracer instantiates torch.autograd.Function, and warns of it
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiled_steps_count():
    torch._dynamo.reset()
    loss = SeesawLoss(3)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    x, y = torch.randn(4, 3, requires_grad=True), torch.tensor([0, 2, 2, -100])
    for step in (1, 2):
        compiled(x, y).backward()
        assert loss.class_counts.tolist() == [step, 0, 2 * step]
    loss.eval()
    compiled(x, y)
    assert loss.class_counts.tolist() == [2, 0, 4]


def test_the_kernel_runs(given):
    assert "seesaw_kernel" in explain(SeesawLoss(3), *given)


def test_errors(given):
    x, y = given
    with pytest.raises(InputError, match=r"SeesawLoss: expected pred with num_classes=4 on axis 1; got \(8, 3\)"):
        SeesawLoss(4)(x, y)
    with pytest.raises(InputError, match=r"expected target with class indices of shape \(8,\) for pred \(8, 3\)"):
        SeesawLoss(3)(x, x)
    with pytest.raises(InputError, match="counts: expected 3 entries"):
        seesaw_loss(x, y, counts=torch.ones(2))
    for options, text in (
        ({"num_classes": 0}, "num_classes: expected an integer >= 1"),
        ({"num_classes": 3, "p": -1}, "p: expected a number >= 0"),
        ({"num_classes": 3, "q": -1}, "q: expected a number >= 0"),
        ({"num_classes": 3, "eps": 0}, "eps: expected a number > 0"),
    ):
        with pytest.raises(ConfigError, match=text):
            SeesawLoss(**options)
