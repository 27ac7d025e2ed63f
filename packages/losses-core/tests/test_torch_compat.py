"""What is not public in torch: it is there in this version, means what it did, and what takes its place is right."""

import importlib.util
import sys

import pytest
import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d
from torch.utils import _python_dispatch

from losses_core.utils import torch_compat


def without(monkeypatch, *names):
    """The module as it is where torch lacks these names."""
    for owner, name in names:
        monkeypatch.delattr(owner, name)
    spec = importlib.util.spec_from_file_location("torch_compat_without", torch_compat.__file__)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    spec.loader.exec_module(module)
    monkeypatch.undo()
    return module


TRANSFORMS = (torch._C, "_are_functorch_transforms_active")
BATCHED = (torch._C._functorch, "is_legacy_batchedtensor")
EXPORTING = [
    (torch.compiler, name) for name in ("_is_exporting_flag", "_is_compiling_flag") if name in dir(torch.compiler)
]
RESOLVE = (distributed_c10d, "_resolve_process_group")
SOFTMAX = (torch, "_softmax_backward_data")


def test_nothing_is_replaced():
    """A version of torch that lacks a name is slower, or tells less: that is to be seen, not to be lived with."""
    assert torch_compat.transforms_active is getattr(*TRANSFORMS)
    assert torch_compat.is_legacy_batched is getattr(*BATCHED)
    assert torch_compat._softmax_backward is getattr(*SOFTMAX)
    assert EXPORTING
    assert hasattr(*RESOLVE)
    assert torch_compat.TorchDispatchMode is _python_dispatch.TorchDispatchMode


def test_transforms_active():
    seen = []

    def look(x):
        seen.append(torch_compat.transforms_active())
        return (x * x).sum()

    look(torch.ones(2))
    torch.func.grad(look)(torch.ones(2))
    torch.func.vmap(look)(torch.ones(2, 2))
    assert seen == [False, True, True]


def test_transforms_are_expected_where_torch_cannot_tell(monkeypatch):
    assert without(monkeypatch, TRANSFORMS).transforms_active()


class Twice(torch.autograd.Function):
    seen: list = []  # noqa: RUF012  # one test's own

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, grad):
        Twice.seen.append(torch_compat.is_legacy_batched(grad))
        return 2 * grad


def test_is_legacy_batched():
    Twice.seen.clear()
    x = torch.ones(3, requires_grad=True)
    y = Twice.apply(x)
    torch.autograd.grad(y, x, torch.ones(3), retain_graph=True)
    torch.autograd.grad(y, x, torch.eye(3), is_grads_batched=True)
    assert Twice.seen == [False, True]


def test_gradients_are_taken_as_batched_where_torch_cannot_tell(monkeypatch):
    assert without(monkeypatch, BATCHED).is_legacy_batched(torch.ones(2))


def test_is_exporting():
    """Not in a graph of torch.compile: there a loss would run its definition in the place of its kernel."""

    class Model(torch.nn.Module):
        def forward(self, x):
            return x * (2 if torch_compat.is_exporting() else 3)

    x = torch.ones(())
    assert Model()(x) == 3
    assert torch.compile(Model(), fullgraph=True, backend="eager")(x) == 3
    assert torch.export.export(Model(), (x,), strict=False).module()(x) == 2


def test_is_exporting_where_there_is_no_flag(monkeypatch):
    public = lambda: True  # noqa: E731
    monkeypatch.setattr(torch.compiler, "is_exporting", public, raising=False)
    assert without(monkeypatch, *EXPORTING).is_exporting is public


def test_sym_max():
    assert (torch_compat.sym_max(2, 3), torch_compat.sym_max(3, 2)) == (3, 3)
    sizes = []

    def backend(graph, inputs):
        sizes.append(graph)
        return graph.forward

    @torch.compile(fullgraph=True, dynamic=True, backend=backend)
    def mean(x):
        return x.sum() / torch_compat.sym_max(x.shape[0] * (x.shape[0] - 1), 1)

    for n in (3, 5, 7):
        torch.testing.assert_close(mean(torch.ones(n)), torch.tensor(1 / (n - 1)))
    assert len(sizes) == 1


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 5)])
def test_softmax_grad(monkeypatch, shape):
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    p, grad = x.softmax(1), torch.randn(shape, dtype=torch.float64)
    (expected,) = torch.autograd.grad(p, x, grad)
    torch.testing.assert_close(torch_compat.softmax_grad(grad, p.detach(), 1), expected)
    torch.testing.assert_close(without(monkeypatch, SOFTMAX).softmax_grad(grad, p.detach(), 1), expected)


def test_memory_that_cannot_be_counted(monkeypatch):
    module = without(monkeypatch, (_python_dispatch, "TorchDispatchMode"))
    with pytest.raises(RuntimeError, match=r"torch \d.* does not show its operations: memory cannot be counted"):
        module.TorchDispatchMode()


@pytest.mark.parametrize("looked_up", [True, False])
def test_group_of_name(monkeypatch, looked_up):
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        other = dist.new_group([0])
        names = [group.group_name for group in (dist.group.WORLD, other)]
        if looked_up:
            assert [torch_compat.group_of_name(name) for name in names] == [dist.group.WORLD, other]
            return
        monkeypatch.delattr(*RESOLVE)
        assert torch_compat.group_of_name(names[0]) is dist.group.WORLD
        with pytest.raises(RuntimeError, match="finds no process group by its name: use the default group"):
            torch_compat.group_of_name(names[1])
    finally:
        dist.destroy_process_group()
