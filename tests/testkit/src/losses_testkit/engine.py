"""The engine half of the contract: torch.compile, host syncs, saved bytes, export, torch.func, outside state."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from losses_core import _blocks
from losses_core._memory import PeakMemory
from losses_core.kernels import use_definitions
from losses_testkit.case import Case
from losses_testkit.runs import call, grown, leaves, on_meta, prepared, run, saved_floats


class _Counted:
    """The aot_eager backend, counting how often it is asked to compile."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        from torch._dynamo.backends.debugging import aot_eager

        self.graphs += 1
        return aot_eager(graph, inputs)


USUAL_PEAKS = 1.5, 2.5
"""The limits of losses of rows and elements, and of losses of regions, in units of pred's bytes."""

WEIGHT = torch.tensor([1.0, 0.0, 2.0, 0.5, 1.5], dtype=torch.float64)


# torch's own tracer instantiates torch.autograd.Function for every custom Function, and warns of it
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
class EngineContract:
    """A loss is one graph, never waits for the device, and keeps no more than it must."""

    def test_compiles_to_one_graph(self, case: Case) -> None:
        if case.dynamic and (case.id or not (case.stateful or case.draws)):
            pytest.skip("compiled for all batch sizes at once, and with default options to machine code, below")
        torch._dynamo.reset()
        inputs = prepared(case.inputs(4), torch.float32)
        torch.manual_seed(0)
        expected, wanted = run(case.build(), inputs)
        compiled = torch.compile(case.build(), fullgraph=True, backend="aot_eager")
        _same(run(compiled, inputs), (expected, wanted))

    def test_compiles_with_a_weight(self, case: Case) -> None:
        if not case.weight:
            pytest.skip("takes no sample weight")
        if case.id:
            pytest.skip("the weight is applied in one place for all options")
        torch._dynamo.reset()
        inputs, weight = prepared(case.inputs(4), torch.float32), torch.tensor([1.0, 0.0, 2.0, 0.5])
        keywords = {"weight": weight} | ({"avg_factor": torch.tensor(3)} if case.avg_factor else {})
        expected = run(case.build(), inputs, **keywords)
        compiled = torch.compile(case.build(), fullgraph=True, backend="aot_eager")
        _same(run(compiled, inputs, **keywords), expected)

    def test_compiles_once_for_all_batch_sizes(self, case: Case) -> None:
        if not case.dynamic:
            pytest.skip(case.why)
        torch._dynamo.reset()
        backend = _Counted()
        compiled = torch.compile(case.build(), fullgraph=True, dynamic=True, backend=backend)
        first = 0  # tracing may start over within the first compilation, to make a float parameter a constant
        # with options it does not: that takes twice the time, and is tried with the default ones
        with torch._dynamo.config.patch(specialize_float=bool(case.id)):
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

    def test_compiles_without_a_gradient(self, case: Case) -> None:
        """Validation: under no_grad, inference_mode, and with inputs that need no gradient."""
        if case.id:
            pytest.skip("one case of each loss")
        torch._dynamo.reset()
        inputs = prepared(case.inputs(4), torch.float32)
        compiled = torch.compile(case.build(), fullgraph=True, backend="aot_eager")
        torch.manual_seed(0)
        expected = call(case.build(), inputs).detach()
        modes = [torch.no_grad] if case.stateful else [torch.no_grad, torch.inference_mode]
        for mode in modes:
            torch.manual_seed(0)
            with mode():
                value = call(torch.compile(case.build(), fullgraph=True, backend="aot_eager"), inputs)
            torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)
        for tensor in leaves(inputs.pred):
            tensor.requires_grad_(False)
        torch.manual_seed(0)
        torch.testing.assert_close(call(compiled, inputs).detach(), expected, rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize("block", [7, 64, 1 << 16])
    @pytest.mark.parametrize("reduction", ["mean", "none"])
    def test_kernel_equals_definition(
        self, case: Case, reduction: str, block: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_blocks, "CPU_BLOCK", block)
        if reduction not in case.build().reductions:
            reduction = "mean"
        for weighted in (False, True) if case.weight else (False,):
            keywords = {"reduction_override": reduction} | ({"weight": WEIGHT} if weighted else {})
            inputs = prepared(case.inputs(5))
            torch.manual_seed(0)
            actual = run(case.build(), inputs, **keywords)
            torch.manual_seed(0)
            with torch.no_grad():
                without = call(case.build(), inputs, **keywords)
            torch.manual_seed(0)
            with use_definitions():
                expected = run(case.build(), inputs, **keywords)
            _same(actual, expected, 1e-9)
            _same((without, []), (expected[0], []), 1e-9)

    def test_double_backward_equals_that_of_the_definition(self, case: Case) -> None:
        if not case.gradgradcheck:
            pytest.skip(case.why)
        inputs = prepared(case.inputs(3))

        def gradients(**keywords: Any) -> list[Tensor]:
            torch.manual_seed(0)
            loss = case.build().eval() if case.stateful else case.build()
            value = call(loss, inputs).sum()
            return list(torch.autograd.grad(value, leaves(inputs.pred), create_graph=True, **keywords))

        def second() -> list[Tensor]:
            penalty = sum((gradient.square().sum() for gradient in gradients()), torch.zeros(()))
            if not penalty.requires_grad:  # the gradient is constant, so nothing comes back
                return [torch.zeros_like(tensor) for tensor in leaves(inputs.pred)]
            return list(torch.autograd.grad(penalty, leaves(inputs.pred), materialize_grads=True))

        actual, graphs = second(), [g.requires_grad for g in gradients(retain_graph=False)]
        with use_definitions():
            _same((torch.zeros(()), actual), (torch.zeros(()), second()), 1e-9)
            assert graphs == [g.requires_grad for g in gradients(retain_graph=False)]

    def test_several_gradients_at_once(self, case: Case) -> None:
        """``is_grads_batched``, as ``jacobian(vectorize=True)`` asks for."""
        if case.stateful or case.draws:
            pytest.skip("a call changes the next one")
        inputs = prepared(case.inputs(3))
        value = call(case.build(), inputs)
        directions = torch.stack([torch.ones_like(value), 2 * torch.ones_like(value)])
        batched = torch.autograd.grad(value, leaves(inputs.pred), directions, is_grads_batched=True)
        _, expected = run(case.build(), inputs)
        for both, gradient in zip(batched, expected, strict=True):
            torch.testing.assert_close(both, torch.stack((gradient, 2 * gradient)))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_runs_on_meta(self, case: Case, dtype: torch.dtype) -> None:
        """Tensors without values: nothing is looked at, so nothing waits for the device."""
        inputs = on_meta(prepared(case.inputs(4), dtype))
        loss = case.build().to("meta")
        value, gradients = run(loss, inputs)
        assert value.is_meta
        for gradient, pred in zip(gradients, leaves(inputs.pred), strict=True):
            assert (gradient.shape, gradient.dtype) == (pred.shape, dtype)
        if case.weight:
            avg_factor = torch.tensor(2.0, device="meta") if case.avg_factor else None
            run(loss, inputs, weight=torch.ones(4, device="meta"), avg_factor=avg_factor)

    def test_the_default_device_does_not_matter(self, case: Case) -> None:
        """Inputs on the CPU, where tensors without a device of their own are made on another."""
        for reduction in case.build().reductions:
            losses, inputs = (case.build(), case.build()), prepared(case.inputs(4), torch.float32)
            torch.manual_seed(0)
            expected = run(losses[0], inputs, reduction_override=reduction)
            torch.manual_seed(0)
            with torch.device("meta"):
                actual = run(losses[1], inputs, reduction_override=reduction)
            _same(actual, expected, 0.0)

    @pytest.mark.unmeasured
    def test_peak_memory(self, case: Case) -> None:
        if case.peak is None:
            pytest.skip("not bounded")
        if case.id and case.peak in USUAL_PEAKS:
            pytest.skip("with options the blocks are those of the default ones; a limit of their own is measured")
        inputs = on_meta(prepared(case.inputs(4), torch.bfloat16))
        repeats = -(-(1 << 27) // sum(tensor.numel() for tensor in leaves(inputs.pred)))  # 256 MiB of bf16
        inputs = grown(inputs, 4, repeats)
        with PeakMemory() as memory:
            run(case.build().to("meta"), inputs)
        pred = sum(tensor.numel() * tensor.element_size() for tensor in leaves(inputs.pred))
        assert memory.peak <= case.peak * pred, f"{memory.peak / pred:.2f} × pred"

    def test_a_gradient_scaler_loses_nothing(self, case: Case) -> None:
        """In fp16 the incoming gradient is applied before a small gradient is rounded away."""
        if not case.logits:
            pytest.skip("pred holds no logits")
        half = prepared(case.inputs(4), torch.float16, lambda t: t * 8)
        full = prepared(half, torch.float32)
        for inputs in (half, full):
            torch.manual_seed(0)
            (call(case.build(), inputs).sum() * 1e-4 * 65536).backward()
        for actual, expected in zip(leaves(half.pred), leaves(full.pred), strict=True):
            assert actual.grad is not None
            assert expected.grad is not None
            torch.testing.assert_close(actual.grad.float(), expected.grad.half().float(), rtol=2e-3, atol=1e-6)

    def test_a_gradient_may_be_written_into(self, case: Case) -> None:
        """A graph that is kept gives the same gradient again, whatever became of the one it gave first."""
        inputs = prepared(case.inputs(5))
        value, preds = call(case.build(), inputs), leaves(inputs.pred)
        given = torch.autograd.grad(value.sum(), preds, retain_graph=True)
        expected = [gradient.clone() for gradient in given]
        for gradient in given:
            gradient.fill_(torch.nan)
        _same((value, list(torch.autograd.grad(value.sum(), preds))), (value, expected), 1e-12)

    def test_saves_little_for_backward(self, case: Case) -> None:
        if case.saved is None:
            pytest.skip("not bounded")
        loss, inputs = case.build(), prepared(case.inputs(case.saved_size), torch.float32)
        with saved_floats() as saved:
            value = call(loss, inputs)
        pred = sum(tensor.numel() * 4 for tensor in leaves(inputs.pred))
        assert value.requires_grad
        assert sum(saved.values()) <= (case.saved + 0.02) * pred, f"{sum(saved.values()) / pred:.2f} × pred"

    @pytest.mark.unmeasured
    def test_exports(self, case: Case) -> None:
        if case.id:
            pytest.skip("options are traced by the compiler")
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
