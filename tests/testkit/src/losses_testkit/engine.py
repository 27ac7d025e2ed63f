"""The engine half of the contract: torch.compile, host syncs, saved bytes, export, torch.func, outside state."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from losses_core.utils import host
from losses_testkit.case import Case
from losses_testkit.runs import NoHostSync, call, leaves, prepared, run, saved_floats


class _General(TorchDispatchMode):
    """Changes nothing, and sends a loss the way it takes on other devices than the host's."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class _Counted:
    """The aot_eager backend, counting how often it is asked to compile."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        from torch._dynamo.backends.debugging import aot_eager

        self.graphs += 1
        return aot_eager(graph, inputs)


# torch's own tracer instantiates torch.autograd.Function for every custom Function, and warns of it
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
class EngineContract:
    """A loss is one graph, never waits for the device, and keeps no more than it must."""

    def test_compiles_to_one_graph(self, case: Case) -> None:
        if case.id and case.dynamic:
            pytest.skip("options are compiled for all batch sizes at once, below")
        torch._dynamo.reset()
        inputs = prepared(case.inputs(4), torch.float32)
        torch.manual_seed(0)
        expected, wanted = run(case.build(), inputs)
        compiled = torch.compile(case.build(), fullgraph=True, backend="aot_eager")
        _same(run(compiled, inputs), (expected, wanted))

    def test_compiles_with_a_weight(self, case: Case) -> None:
        if not case.weight:
            pytest.skip("takes no sample weight")
        torch._dynamo.reset()
        inputs, weight = prepared(case.inputs(4), torch.float32), torch.tensor([1.0, 0.0, 2.0, 0.5])
        expected = run(case.build(), inputs, weight=weight, avg_factor=torch.tensor(3))
        compiled = torch.compile(case.build(), fullgraph=True, backend="aot_eager")
        _same(run(compiled, inputs, weight=weight, avg_factor=torch.tensor(3)), expected)

    def test_compiles_once_for_all_batch_sizes(self, case: Case) -> None:
        if not case.dynamic:
            pytest.skip(case.why)
        torch._dynamo.reset()
        backend = _Counted()
        compiled = torch.compile(case.build(), fullgraph=True, dynamic=True, backend=backend)
        first = 0  # tracing may start over within the first compilation, to make a float parameter a constant
        for n in (13, 6, 9):  # 13 first: torch ties the batch size to any dim equal to it, as 4 to those of boxes
            inputs = prepared(case.inputs(n), torch.float32)
            if case.stateful:
                run(compiled, inputs)
            else:
                _same(run(compiled, inputs), run(case.build(), inputs))
            first = first or backend.graphs
        assert backend.graphs == first

    def test_compiles_with_inductor_to_the_same_numbers(self, case: Case) -> None:
        if case.id:
            pytest.skip("one case of each loss is compiled to machine code")
        torch._dynamo.reset()
        # enough for a loop over vectors of the processor: with few elements, code that reads what it overwrote gets by
        inputs = prepared(case.inputs(16), torch.float32)
        with warnings.catch_warnings():
            # torch's own: its code generation imports modules that warn
            warnings.simplefilter("ignore")
            actual = run(torch.compile(case.build(), fullgraph=True), inputs)
        _same(actual, run(case.build(), inputs), 1e-5)

    @pytest.mark.parametrize("reduction", ["mean", "none"])
    def test_both_ways_give_the_same(self, case: Case, reduction: str, monkeypatch: pytest.MonkeyPatch) -> None:
        # small enough for several blocks of every input
        monkeypatch.setattr(host, "BLOCK", 16)
        if reduction not in case.build().reductions:
            reduction = "mean"
        inputs = prepared(case.inputs(5))
        torch.manual_seed(0)
        found = run(case.build(), inputs, reduction_override=reduction)
        torch.manual_seed(0)
        with _General():  # type: ignore[no-untyped-call]
            expected = run(case.build(), inputs, reduction_override=reduction)
        _same(found, expected, 1e-9)

    def test_a_gradient_may_be_written_into(self, case: Case) -> None:
        """A graph that is kept gives the same gradient again, whatever became of the one it gave first."""
        inputs = prepared(case.inputs(5))
        value, preds = call(case.build(), inputs), leaves(inputs.pred)
        given = torch.autograd.grad(value.sum(), preds, retain_graph=True)
        expected = [gradient.clone() for gradient in given]
        for gradient in given:
            gradient.fill_(torch.nan)
        _same((value, list(torch.autograd.grad(value.sum(), preds))), (value, expected), 1e-12)

    def test_never_waits_for_the_device(self, case: Case) -> None:
        loss, inputs = case.build(), prepared(case.inputs(4), torch.float32)
        with NoHostSync():  # type: ignore[no-untyped-call]
            run(loss, inputs)
            if case.weight:
                run(loss, inputs, weight=torch.ones(4), avg_factor=torch.tensor(2.0))

    def test_saves_little_for_backward(self, case: Case) -> None:
        if case.saved is None:
            pytest.skip("not bounded")
        loss, inputs = case.build(), prepared(case.inputs(case.saved_size), torch.float32)
        with saved_floats() as saved:
            value = call(loss, inputs)
        pred = sum(tensor.numel() * 4 for tensor in leaves(inputs.pred))
        assert value.requires_grad
        assert sum(saved.values()) <= (case.saved + 0.02) * pred, f"{sum(saved.values()) / pred:.2f} × pred"

    def test_exports(self, case: Case) -> None:
        inputs = prepared(case.inputs(4), torch.float32)
        loss = case.build().eval()
        program = torch.export.export(loss, (inputs.pred, inputs.target), inputs.call, strict=False)
        torch.testing.assert_close(call(program.module(), inputs), call(loss, inputs))

    def test_torch_func_grad(self, case: Case) -> None:
        inputs = prepared(case.inputs(3))
        if not isinstance(inputs.pred, Tensor):
            pytest.skip("torch.func.grad takes one tensor")
        loss = case.build().eval() if case.stateful else case.build()
        torch.manual_seed(0)
        _, (wanted,) = run(loss, inputs)
        torch.manual_seed(0)
        pred = inputs.pred.detach()
        actual = torch.func.grad(lambda p: loss(p, inputs.target, **inputs.call).sum())(pred)
        torch.testing.assert_close(actual, wanted)

    def test_changes_nothing_outside(self, case: Case) -> None:
        inputs = prepared(case.inputs(3), torch.float32)
        before = [tensor.detach().clone() for tensor in leaves([inputs.pred, inputs.target, inputs.call])]
        loss, state = case.build(), torch.random.get_rng_state()
        with torch.no_grad():
            call(loss, inputs)
            assert not torch.is_grad_enabled()
        run(loss, inputs)
        assert torch.is_grad_enabled()
        assert not torch.is_autocast_enabled("cpu")
        if not case.draws:
            assert torch.equal(torch.random.get_rng_state(), state)
        for tensor, copy in zip(leaves([inputs.pred, inputs.target, inputs.call]), before, strict=True):
            torch.testing.assert_close(tensor.detach(), copy, rtol=0, atol=0)

    def test_keeps_no_graph(self, case: Case) -> None:
        loss = case.build()
        run(loss, prepared(case.inputs(3), torch.float32))
        held = [value for module in loss.modules() for value in vars(module).values() if isinstance(value, Tensor)]
        held += list(loss.buffers())
        assert not any(tensor.grad_fn is not None for tensor in held)


def _same(actual: tuple[Tensor, list[Tensor]], expected: tuple[Tensor, list[Tensor]], tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(actual[0], expected[0], rtol=tolerance, atol=tolerance)
    for gradient, wanted in zip(actual[1], expected[1], strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=tolerance, atol=tolerance)
