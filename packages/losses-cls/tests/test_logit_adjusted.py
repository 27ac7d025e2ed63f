"""Logit adjustment: what it is equal to, its two modes, and absent classes."""

import pytest
import torch
import torch.nn.functional as F

from losses_cls import CrossEntropyLoss, LogitAdjustedCrossEntropyLoss
from losses_cls.functional import cross_entropy, logit_adjusted_cross_entropy_loss, logit_adjustment
from losses_core import ConfigError, InputError, explain

COUNTS = [100, 10, 1]


@pytest.fixture
def given():
    torch.manual_seed(0)
    return torch.randn(8, 3, dtype=torch.float64, requires_grad=True), torch.randint(3, (8,))


def gradient(loss, x, y):
    value = loss(x, y)
    return value, torch.autograd.grad(value.sum(), x)[0]


def test_with_tau_one_it_is_balanced_softmax(given):
    x, y = given
    prior = torch.tensor(COUNTS, dtype=torch.float64) / 111
    weighted = prior * x.exp()
    expected = -(weighted.gather(1, y[:, None]).squeeze(1) / weighted.sum(1)).log().mean()
    torch.testing.assert_close(LogitAdjustedCrossEntropyLoss(COUNTS)(x, y), expected)


@pytest.mark.parametrize("options", [{"class_counts": COUNTS, "tau": 0.0}, {"class_counts": [7, 7, 7], "tau": 3.0}])
def test_with_nothing_to_adjust_it_is_the_cross_entropy(given, options):
    for more in ({}, {"class_weight": [1.0, 2.0, 3.0]}, {"label_smoothing": 0.1}):
        ours = gradient(LogitAdjustedCrossEntropyLoss(**options, **more), *given)
        torch.testing.assert_close(ours, gradient(CrossEntropyLoss(**more), *given))


def test_only_ratios_of_the_counts_matter(given):
    expected = LogitAdjustedCrossEntropyLoss(COUNTS)(*given)
    for scale in (1e-3, 1e300, 1e-300):
        counts = torch.tensor(COUNTS, dtype=torch.float64) * scale
        torch.testing.assert_close(LogitAdjustedCrossEntropyLoss(counts)(*given), expected)


def test_an_absent_class_is_as_rare_as_the_rarest(given):
    ours = gradient(LogitAdjustedCrossEntropyLoss([100, 0, 10], tau=2.0), *given)
    torch.testing.assert_close(ours, gradient(LogitAdjustedCrossEntropyLoss([100, 10, 10], tau=2.0), *given))


def test_nothing_is_adjusted_in_eval_mode(given):
    plain, adjusted = CrossEntropyLoss()(*given), LogitAdjustedCrossEntropyLoss(COUNTS)(*given)
    assert not torch.isclose(plain, adjusted)
    loss, always = LogitAdjustedCrossEntropyLoss(COUNTS), LogitAdjustedCrossEntropyLoss(COUNTS, adjust_in_eval=True)
    torch.testing.assert_close(loss.eval()(*given), plain)
    torch.testing.assert_close(loss.train()(*given), adjusted)
    torch.testing.assert_close(always.eval()(*given), adjusted)
    torch.testing.assert_close(always.train()(*given), adjusted)


def test_state_and_precision():
    loss = LogitAdjustedCrossEntropyLoss(COUNTS).half()
    assert not loss.state_dict()
    assert dict(loss.named_buffers())["_adjustment"].dtype == torch.float64
    assert list(loss.class_counts) == COUNTS


def test_the_function_takes_the_adjustment(given):
    x, y = given
    shift = logit_adjustment(COUNTS, 2.0)
    torch.testing.assert_close(shift, 2 * torch.tensor([100.0, 10.0, 1.0]).double().log())
    value = logit_adjusted_cross_entropy_loss(x, y, adjustment=shift).value
    torch.testing.assert_close(value, F.cross_entropy(x + shift, y, reduction="none"))
    torch.testing.assert_close(logit_adjusted_cross_entropy_loss(x, y).value, cross_entropy(x, y).value)
    with pytest.raises(InputError, match="adjustment: expected 3 entries"):
        logit_adjusted_cross_entropy_loss(x, y, adjustment=shift[:2])
    with pytest.raises(InputError, match="class_counts: expected a positive number"):
        logit_adjustment([0, 0])


def test_the_adjustment_gets_no_gradient(given):
    x, y = given
    shift = logit_adjustment(COUNTS).requires_grad_()
    value = logit_adjusted_cross_entropy_loss(x, y, adjustment=shift).value.sum()
    (grad,) = torch.autograd.grad(value, shift, allow_unused=True)
    assert grad is None


def test_kernels_run(given):
    x, y = given
    loss = LogitAdjustedCrossEntropyLoss(COUNTS)
    assert "adjusted_cross_entropy_of_labels" in explain(loss, x, y)
    assert "adjusted_cross_entropy_of_probabilities" in explain(loss, x, x.detach().softmax(1))


def test_errors(given):
    for counts in ([0, 0], [-1, 2], [], 3, None):
        with pytest.raises(ConfigError, match="LogitAdjustedCrossEntropyLoss: class_counts: expected"):
            LogitAdjustedCrossEntropyLoss(counts)
    with pytest.raises(ConfigError, match="tau: expected a number >= 0; got -1"):
        LogitAdjustedCrossEntropyLoss(COUNTS, tau=-1)
    for loss in (LogitAdjustedCrossEntropyLoss([1, 2]), LogitAdjustedCrossEntropyLoss([1, 2]).eval()):
        with pytest.raises(
            InputError, match=r"class_counts: expected 3 entries, one per class of pred \(8, 3\); got 2"
        ):
            loss(*given)
    with pytest.raises(TypeError, match="class_counts"):
        LogitAdjustedCrossEntropyLoss()
