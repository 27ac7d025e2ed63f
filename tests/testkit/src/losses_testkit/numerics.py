"""The numerical half of the contract: oracle, gradients, precision, masks, reductions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from losses_core import LossesError
from losses_testkit.case import Array, Case
from losses_testkit.runs import call, leaves, poisoned, prepared, run

HALF = [torch.float16, torch.bfloat16]


def _close(actual: torch.Tensor, expected: Array | float, tolerance: float = 1e-9) -> None:
    np.testing.assert_allclose(actual.detach().numpy(), expected, rtol=tolerance, atol=tolerance)


def _fast(case: Case) -> bool:
    """Whether finite differences are taken along a random direction: with options; else for each element."""
    return bool(case.id)


def _finite(value: torch.Tensor, gradients: list[torch.Tensor]) -> None:
    assert value.isfinite().all(), f"value {value}"
    for gradient in gradients:
        assert gradient.isfinite().all(), "gradient not finite"


class NumericsContract:
    """Value and gradient are those of the definition, in every precision and at every edge."""

    @pytest.mark.parametrize("n", [1, 4])
    def test_value_equals_the_oracle(self, case: Case, n: int) -> None:
        loss = case.build()
        for seed in range(2):
            inputs = case.inputs(n, seed)
            value, normalizer = case.reference(inputs)
            total = value.sum()
            expected = {
                "none": value,
                "sum": total,
                "mean": total / (normalizer.sum() if normalizer.sum() > 0 else 1),
                "batchmean": total / (value.shape[0] if value.ndim else 1),
            }
            for reduction in loss.reductions:
                if case.stateful:
                    loss = case.build()
                actual = call(loss, prepared(inputs), reduction_override=reduction)
                assert actual.dtype == torch.float64
                _close(actual, expected[reduction])

    @pytest.mark.unmeasured
    def test_gradient_is_the_derivative(self, case: Case) -> None:
        if not case.gradcheck:
            pytest.skip(case.why)
        loss = case.build().eval() if case.stateful else case.build()
        inputs = prepared(case.inputs(3))

        def function(*pred: torch.Tensor) -> torch.Tensor:
            torch.manual_seed(0)
            return call(loss, type(inputs)(_like(inputs.pred, pred), inputs.target, inputs.call))

        assert torch.autograd.gradcheck(function, leaves(inputs.pred), fast_mode=_fast(case))

    @pytest.mark.unmeasured
    def test_double_backward_works_or_says_why_not(self, case: Case) -> None:
        if not case.gradgradcheck:
            pytest.skip(case.why)
        if case.id:
            pytest.skip("with options it is that of torch's own operators in the definition, as the next test holds")
        loss = case.build().eval() if case.stateful else case.build()
        inputs = prepared(case.inputs(2))

        def function(*pred: torch.Tensor) -> torch.Tensor:
            torch.manual_seed(0)
            return call(loss, type(inputs)(_like(inputs.pred, pred), inputs.target, inputs.call))

        assert torch.autograd.gradgradcheck(function, leaves(inputs.pred), atol=1e-4)

    @pytest.mark.parametrize("dtype", HALF, ids=str)
    def test_half_precision_equals_float32(self, case: Case, dtype: torch.dtype) -> None:
        half = prepared(case.inputs(4), dtype)
        full = prepared(half, torch.float32)
        value, gradients = run(case.build(), half)
        expected, wanted = run(case.build(), full)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected, rtol=case.half_tolerance, atol=case.half_tolerance)
        for gradient, want in zip(gradients, wanted, strict=True):
            assert gradient.dtype == dtype
            torch.testing.assert_close(gradient, want.to(dtype))

    def test_autocast_changes_nothing(self, case: Case) -> None:
        inputs = prepared(case.inputs(4), torch.float32)
        expected, wanted = run(case.build(), inputs)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = call(case.build(), inputs)
            assert torch.is_autocast_enabled("cpu")
        gradients = torch.autograd.grad(value.sum(), leaves(inputs.pred))
        torch.testing.assert_close(value.detach(), expected, rtol=0, atol=0)
        for gradient, want in zip(gradients, wanted, strict=True):
            torch.testing.assert_close(gradient, want, rtol=0, atol=0)

    @pytest.mark.parametrize("dtype", [torch.float32, *HALF], ids=str)
    def test_saturated_and_uniform_logits_are_finite(self, case: Case, dtype: torch.dtype) -> None:
        if not case.logits:
            pytest.skip("pred holds no logits")
        changes = [
            lambda t: torch.where(t > 0, 6e4, -6e4),
            lambda t: torch.where(t > 0, -6e4, 6e4),
            lambda t: torch.full_like(t, 6e4),
            torch.zeros_like,
        ]
        for change in changes:
            _finite(*run(case.build(), prepared(case.inputs(4), dtype, change)))

    @pytest.mark.parametrize("dtype", [torch.float32, *HALF], ids=str)
    def test_edge_inputs_are_finite(self, case: Case, dtype: torch.dtype) -> None:
        for name, make in case.edges.items():
            value, gradients = run(case.build(), prepared(make(), dtype))
            try:
                _finite(value, gradients)
            except AssertionError as error:
                raise AssertionError(f"{name}: {error}") from None

    def test_an_empty_batch_costs_zero(self, case: Case) -> None:
        if not case.empty:
            pytest.skip(case.why)
        value, gradients = run(case.build(), prepared(case.inputs(0)))
        assert value == 0
        assert all(gradient.shape[0] == 0 or not gradient.any() for gradient in gradients)

    @pytest.mark.parametrize("poison", [float("nan"), float("inf")])
    def test_ignored_places_have_no_influence(self, case: Case, poison: float) -> None:
        if case.ignore is None:
            pytest.skip("ignores nothing")
        inputs, mask = case.ignore(case.inputs(4))
        expected, wanted = run(case.build(), prepared(inputs))
        value, gradients = run(case.build(), prepared(poisoned(inputs, mask, poison)))
        torch.testing.assert_close(value, expected, rtol=0, atol=0)
        for gradient, want, hidden in zip(gradients, wanted, leaves(mask), strict=True):
            torch.testing.assert_close(gradient, want, rtol=0, atol=0)
            assert not gradient[hidden].any()

    def test_ignored_places_leave_the_denominator(self, case: Case) -> None:
        if case.ignore is None:
            pytest.skip("ignores nothing")
        inputs, _ = case.ignore(case.inputs(4))
        value, normalizer = case.reference(inputs)
        actual = call(case.build(), prepared(inputs), reduction_override="mean")
        _close(actual, value.sum() / (normalizer.sum() if normalizer.sum() > 0 else 1))

    def test_everything_ignored_costs_zero(self, case: Case) -> None:
        if case.ignore_all is None:
            pytest.skip("ignores nothing")
        value, gradients = run(case.build(), prepared(case.ignore_all(case.inputs(3)), torch.float32))
        assert not value.any()
        assert not any(gradient.any() for gradient in gradients)

    def test_a_weight_multiplies(self, case: Case) -> None:
        if not case.weight or "none" not in case.build().reductions:
            pytest.skip("takes no sample weight")
        inputs = prepared(case.inputs(4))
        weight = torch.tensor([0.5, 2.0, 0.0, 1.0], dtype=torch.float64)
        plain = call(case.build(), inputs, reduction_override="none")
        weighted = call(case.build(), inputs, weight=weight, reduction_override="none")
        torch.testing.assert_close(weighted, plain * weight.reshape(-1, *(1 for _ in plain.shape[1:])))

    @pytest.mark.parametrize("poison", [float("nan"), float("inf")])
    def test_a_sample_of_weight_zero_has_no_influence(self, case: Case, poison: float) -> None:
        if not case.weight:
            pytest.skip("takes no sample weight")
        weight = torch.tensor([1.0, 0.0, 2.0])
        inputs = case.inputs(3)
        mask = [torch.zeros_like(p, dtype=torch.bool) for p in leaves(inputs.pred)]
        for m in mask:
            m[1] = True
        expected, wanted = run(case.build(), prepared(inputs), weight=weight)
        value, gradients = run(case.build(), prepared(poisoned(inputs, mask, poison)), weight=weight)
        torch.testing.assert_close(value, expected, rtol=0, atol=0)
        for gradient, want in zip(gradients, wanted, strict=True):
            assert not gradient[1].any()
            torch.testing.assert_close(gradient, want, rtol=0, atol=0)

    def test_all_weights_zero_costs_zero(self, case: Case) -> None:
        if not case.weight:
            pytest.skip("takes no sample weight")
        value, gradients = run(case.build(), prepared(case.inputs(3)), weight=torch.zeros(3))
        assert not value.any()
        assert not any(gradient.any() for gradient in gradients)

    def test_options_of_the_call_beat_the_constructor(self, case: Case) -> None:
        inputs = prepared(case.inputs(4))
        total = call(case.build(), inputs, reduction_override="sum")
        torch.testing.assert_close(call(case.build(loss_weight=3.0), inputs, reduction_override="sum"), 3 * total)
        torch.testing.assert_close(call(case.build(reduction="sum"), inputs), total)
        if case.avg_factor:
            torch.testing.assert_close(call(case.build(reduction="mean", avg_factor=7.0), inputs), total / 7)
            for five in (5, 5.0, torch.tensor(5)):
                torch.testing.assert_close(
                    call(case.build(reduction="mean", avg_factor=7.0), inputs, avg_factor=five), total / 5
                )
            for nothing in (0, -1.0, torch.tensor(0.0)):
                torch.testing.assert_close(call(case.build(reduction="mean"), inputs, avg_factor=nothing), total)
        with pytest.raises(LossesError, match="avg_factor"):
            call(case.build(), inputs, reduction_override="sum", avg_factor=2)
        with pytest.raises(LossesError, match="reduction"):
            call(case.build(), inputs, reduction_override="average")


def _like(tree: object, tensors: tuple[torch.Tensor, ...]) -> object:
    from losses_core.utils.precision import map_tensors

    rest = iter(tensors)
    return map_tensors(lambda _: next(rest), tree)
