"""What is done another way on the host: when it is, what is looked at, and that both ways give one number."""

import dataclasses
from typing import ClassVar

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from losses_core import BaseLoss
from losses_core.utils import host
from losses_core.utils.elementwise import Elements, Evaluated, elementwise, power
from losses_core.utils.native import Native


@dataclasses.dataclass(frozen=True)
class Weighted:
    """w (x - t)² with a weight per class; the target may be the class whose x is to be 1."""

    ignore_index: float | None = -100
    index: bool = False

    def __call__(self, x, t, weight=None):
        if self.index:
            t = (t.unsqueeze(1) == torch.arange(x.shape[1])).to(x.dtype)
        error = x - t
        factor = 1.0 if weight is None else weight
        return Evaluated(lambda: error * error * factor, lambda: 2 * error * factor)


class SquareLoss(BaseLoss):
    def __init__(self, index=False, ignore_index=-100, **options):
        super().__init__(**options)
        self.index, self.ignore_index = index, ignore_index

    def _forward(self, pred, target, *, ignore_index, weights=None):
        return Elements(Weighted(ignore_index, self.index), pred, target, weights)


class Quiet(TorchDispatchMode):
    """Changes nothing, and sends a loss the general way."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


class TestOnHost:
    def test_is_for_plain_tensors_in_eager_mode(self):
        x = torch.zeros(2)
        assert host.on_host(x, torch.nn.Parameter(x))
        assert not host.on_host(x, torch.zeros(2, device="meta"))
        assert not host.on_host(torch.nn.Buffer(x).as_subclass(type("Marked", (torch.Tensor,), {})))
        with Quiet():
            assert not host.on_host(x)
        assert host.on_host(x)
        asked = []
        torch.func.grad(lambda y: (asked.append(host.on_host(y)), y.sum())[1])(x)
        assert asked == [False]

    @pytest.mark.parametrize(
        ("value", "tensor", "expected"),
        [
            (-100, torch.tensor([0.0, 1.0]), True),
            (-100, torch.tensor([0.0, -100.0]), False),
            (255, torch.tensor([0, 255]), False),
            (255, torch.tensor([0, 7]), True),
            (3, torch.tensor([0, 7]), False),  # possible, and not looked for
            (-100, torch.tensor([float("nan"), -100.0]), False),
            (-100, torch.tensor([float("nan"), 1.0]), False),
            (-100, torch.tensor([0, 200], dtype=torch.uint8), True),
            (-100, torch.tensor([True]), True),
            (1, torch.tensor([True]), False),
            (5, torch.zeros(0), True),
        ],
    )
    def test_absent(self, value, tensor, expected):
        assert host.absent(value, tensor) is expected

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_zero_where(self, dtype):
        x = torch.tensor([[1.0, float("nan")], [float("inf"), 2.0]], dtype=dtype)
        where = torch.tensor([[True], [False]])
        expected = x.masked_fill(where, 0)
        assert torch.equal(host.zero_where_(x, where), expected)

    def test_dot_is_exact_over_many_numbers(self):
        a, b = torch.rand(2, 1000, 1000)
        exact = (a.double() * b.double()).sum()
        assert abs(host.dot(a, b) / exact - 1) < 2e-6
        assert host.dot(a[:1], b[:1]) == torch.dot(a[0], b[0])


class TestSoftmax:
    def normal(self, x):
        numbers, factor = host.softmax(x)
        return numbers * factor

    @pytest.mark.parametrize("shape", [(5, 7), (2, 3, 4), (2, 40, 3, 5), (0, 3), (2, 3, 0), (1, 1)], ids=str)
    @pytest.mark.parametrize("offset", [0, -12, -95, 70, 1000], ids=str)
    def test_equals_the_definition(self, shape, offset):
        x = torch.randn(shape) * 3 + offset
        torch.testing.assert_close(self.normal(x).double(), x.double().softmax(1), rtol=5e-6, atol=1e-12)

    def test_at_the_end_of_the_range(self):
        x = torch.tensor([[88.0, 86.0, 50.0], [-90.0, -86.0, -88.0]])
        torch.testing.assert_close(self.normal(x).double(), x.double().softmax(1), rtol=5e-6, atol=0)

    def test_writes_where_it_is_told(self):
        x = torch.randn(2, 3, 4)
        out = torch.empty(2, 4, 3).mT
        numbers, factor = host.softmax(x, out)
        assert numbers is out
        torch.testing.assert_close(out * factor, x.softmax(1))

    @pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5)], ids=str)
    def test_places_keep_to_themselves(self, shape):
        x = torch.randn(shape)
        alone = self.normal(x)
        x[1], x[2, 0], x[3] = 1e4 * torch.randn(shape[1:]), -torch.inf, torch.nan
        found = self.normal(x)
        assert torch.equal(found[0], alone[0])
        torch.testing.assert_close(found[:3], x[:3].softmax(1))
        assert found[3].isnan().all()


SHAPES = [(3, 4), (1, 1), (0, 4), (host.BLOCK // 4 + 3, 4), (3, 2, host.BLOCK // 5)]


class TestElements:
    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    @pytest.mark.parametrize("ignored", [False, True])
    @pytest.mark.parametrize("per_class", [False, True])
    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    def test_both_ways_agree(self, shape, ignored, per_class, reduction):
        x, t = torch.randn(2, *shape, dtype=torch.float64)
        if ignored:
            hidden = torch.rand(shape) < 0.3
            x, t = x.masked_fill(hidden, float("nan")), t.masked_fill(hidden, -100)
        weights = torch.linspace(1, 2, shape[1], dtype=torch.float64) if per_class else None
        weights = weights if weights is None else weights.reshape(-1, *(1 for _ in shape[2:]))
        self.agree(SquareLoss(reduction=reduction, loss_weight=0.7), x, t, weights=weights)

    @pytest.mark.parametrize("rows", [0, 5, host.BLOCK // 3])
    @pytest.mark.parametrize("ignored", [False, True])
    @pytest.mark.parametrize("avg_factor", [None, 3, torch.tensor(3)])
    def test_both_ways_agree_with_indices(self, rows, ignored, avg_factor):
        x, t = torch.randn(rows, 4, dtype=torch.float64), torch.randint(5, (rows,))
        if ignored:
            x[::2], t[::2] = float("inf"), -100
        self.agree(SquareLoss(index=True), x, t, avg_factor=avg_factor)

    def agree(self, loss, x, t, **call):
        def run():
            pred = x.clone().requires_grad_()
            value = loss(pred, t, **call)
            incoming = torch.linspace(1, 2, value.numel(), dtype=value.dtype).reshape(value.shape)
            return value.detach(), torch.autograd.grad(value, pred, incoming)[0]

        found = [run()]
        with Quiet():
            found.append(run())
        torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-15)
        assert not found[0][1].isnan().any()

    @pytest.mark.parametrize("number", [6, host.BLOCK + 7])
    @pytest.mark.parametrize("reduction", ["mean", "none"])
    def test_second_derivative(self, number, reduction):
        x, t = torch.randn(2, number, dtype=torch.float64)
        x.requires_grad_()
        loss = SquareLoss(reduction=reduction)
        (gradient,) = torch.autograd.grad(loss(x, t).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(gradient.sum(), x)
        expected = 2.0 if reduction == "none" else 2.0 / number
        torch.testing.assert_close(second, torch.full_like(x, expected))

    def test_a_step_may_go_back_twice(self):
        x = torch.randn(5, requires_grad=True)
        value = SquareLoss()(x, torch.zeros(5))
        first, second = (torch.autograd.grad(value, x, retain_graph=True)[0] for _ in range(2))
        assert torch.equal(first, second)

    def test_what_stands_in_memory_otherwise(self):
        x, t = torch.randn(host.BLOCK // 4, 8).mT, torch.randn(8, host.BLOCK // 4)
        torch.testing.assert_close(elementwise(Weighted(), x, t), (x - t) ** 2)
        pred = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(SquareLoss()(pred, t), pred)
        torch.testing.assert_close(gradient, 2 * (x - t) / x.numel())

    def test_a_nan_that_counts_is_seen(self):
        x = torch.tensor([1.0, float("nan")], requires_grad=True)
        value = SquareLoss()(x, torch.zeros(2))
        assert value.isnan()
        assert torch.autograd.grad(value, x)[0].isnan().tolist() == [False, True]


class TestNative:
    def test_sum_keeps_no_buffer_alive(self):
        class NativeLoss(BaseLoss):
            def _forward(self, pred, target):
                return Native(torch.nn.functional.smooth_l1_loss, pred, target)

        x, t = torch.randn(100, requires_grad=True), torch.zeros(100)
        value = NativeLoss()(x, t)
        torch.testing.assert_close(value, torch.nn.functional.smooth_l1_loss(x, t))
        assert value.detach().untyped_storage().nbytes() == 4
        weighted = NativeLoss()(x, t, weight=torch.ones(100))
        torch.testing.assert_close(weighted, value)


@pytest.mark.parametrize("exponent", [0, 0.5, 1, 2, 2.5, 3, 4, 5])
def test_power(exponent):
    base = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64, requires_grad=True)
    value = power(base, exponent)
    torch.testing.assert_close(value, base**exponent, rtol=1e-7, atol=1e-150)
    if value.requires_grad:
        (slope,) = torch.autograd.grad(value.sum(), base)
        assert slope.isfinite().all()
        torch.testing.assert_close(slope[1], exponent * torch.tensor(0.3, dtype=torch.float64) ** (exponent - 1))


def test_formula_defaults_are_class_variables():
    class Formula:
        ignore_index: ClassVar[None] = None
        index: ClassVar[bool] = False

        def __call__(self, x, t):
            return Evaluated(lambda: x * t, lambda: t.expand_as(x).clone())

    x = torch.ones(2, requires_grad=True)
    assert Elements(Formula(), x, torch.ones(2)).total(2.0) == 4
