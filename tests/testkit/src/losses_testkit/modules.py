"""The module half of the contract: configuration, round trips, documentation, wrapping."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import re
import types
from typing import Any

import pytest
import torch

from losses_core import LOSSES, BaseLoss, InputError, build_loss
from losses_core.base_loss import OPTIONS
from losses_testkit.case import Case, to_numpy
from losses_testkit.runs import call, leaves, prepared, run

SECTIONS = ("Use when:", "Args:", "Shape:", "Returns:", "Raises:", "Example:", "References:")


class ModuleContract:
    """A loss is an ordinary module with an open configuration."""

    def test_parameters_are_kept_as_given(self, case: Case) -> None:
        loss = case.build()
        given = loss.parameters_as_given()
        assert set(OPTIONS) <= set(given)
        for name, value in case.options.items():
            assert given[name] is value or to_numpy(given[name]) == pytest.approx(to_numpy(value))

    def test_the_config_builds_the_loss_again(self, case: Case) -> None:
        loss = case.build(loss_weight=0.5)
        torch.manual_seed(0)
        again = build_loss(loss.to_config())
        assert type(again) is type(loss)
        assert again.to_config() == loss.to_config()
        assert repr(again) == repr(loss)
        again.load_state_dict(loss.state_dict())
        _same_result(again, loss, case)

    def test_copies_give_the_same_result(self, case: Case) -> None:
        loss = case.build()
        twins = [copy.deepcopy(loss), pickle.loads(pickle.dumps(loss)), case.build()]
        twins[-1].load_state_dict(loss.state_dict())
        for twin in twins:
            _same_result(twin, copy.deepcopy(loss), case)

    def test_moving_the_loss_does_not_change_it(self, case: Case) -> None:
        if any(True for _ in case.build().parameters()):
            pytest.skip("learned parts follow the dtype on purpose")
        for move in ("half", "double", "cpu"):
            moved = getattr(case.build(), move)()
            _same_result(moved, case.build(), case, torch.float64)

    def test_unknown_words_are_refused_with_a_hint(self, case: Case) -> None:
        with pytest.raises(TypeError, match="Did you mean 'loss_weight'"):
            case.build(loss_wieght=1)
        with pytest.raises(TypeError, match="Did you mean 'avg_factor'"):
            call(case.build(), prepared(case.inputs(2)), avg_facto=1)

    def test_a_models_output_in_place_of_pred(self, case: Case) -> None:
        """The error names the type, and what of it to give."""
        loss, inputs = case.build(), prepared(case.inputs(2), torch.float32)
        pred = inputs.pred
        if not isinstance(pred, torch.Tensor):
            pytest.skip("pred is a tuple")
        outputs: dict[str, Any] = {
            "dict: give pred['out']": {"out": pred, "aux": pred},
            "SimpleNamespace: give pred.logits": types.SimpleNamespace(logits=pred),
        }
        for text, output in outputs.items():
            with pytest.raises(InputError, match=f"{type(loss).__name__}: expected pred as .*{re.escape(text)}"):
                call(loss, dataclasses.replace(inputs, pred=output))
        if type(loss).function is not None:
            with pytest.raises(InputError):  # a tuple may be documented, but not with such an entry
                call(loss, dataclasses.replace(inputs, pred=(pred, None)))

    def test_a_learned_weight_gets_a_gradient(self, case: Case) -> None:
        loss, inputs = case.build(), prepared(case.inputs(3), torch.float32)
        torch.manual_seed(0)
        value, gradients = run(case.build(), inputs)
        weight = torch.nn.Parameter(torch.tensor(0.5))
        loss.loss_weight = weight
        torch.manual_seed(0)
        halved = call(loss, inputs)
        torch.testing.assert_close(halved.detach(), 0.5 * value)
        found = torch.autograd.grad(halved.sum(), [weight, *leaves(inputs.pred)])
        torch.testing.assert_close(found[0], value.sum())
        for gradient, wanted in zip(found[1:], gradients, strict=True):
            torch.testing.assert_close(gradient, 0.5 * wanted)

    def test_nothing_is_ignored_at_a_call(self, case: Case) -> None:
        if "ignore_index" not in type(case.build()).call_keywords() or "ignore_index" in case.options:
            pytest.skip("ignores nothing, or something that is there")
        inputs = prepared(case.inputs(3), torch.float32)
        torch.manual_seed(0)
        expected = call(case.build(), inputs)
        torch.manual_seed(0)
        torch.testing.assert_close(call(case.build(), inputs, ignore_index=None), expected)

    def test_documentation_is_complete(self, case: Case) -> None:
        if not case.documentation:
            pytest.skip(case.why)
        cls = LOSSES[case.loss]
        text = inspect.getdoc(cls) or ""
        positions = [text.find(section) for section in SECTIONS]
        missing = [section for section, at in zip(SECTIONS, positions, strict=True) if at < 0]
        assert not missing, f"{case.loss}: no {missing}"
        assert positions == sorted(positions), f"{case.loss}: sections out of order"
        assert ".. math::" in text
        assert text.index(".. math::") < positions[0]
        for name in inspect.signature(cls).parameters:
            assert name in OPTIONS or f"{name}:" in text, f"{case.loss}: {name} is not documented"


def _same_result(loss: BaseLoss, expected: BaseLoss, case: Case, dtype: torch.dtype = torch.float32) -> None:
    inputs = prepared(case.inputs(3), dtype)
    torch.manual_seed(0)
    value, gradients = run(loss, inputs)
    torch.manual_seed(0)
    wanted, wanted_gradients = run(expected, inputs)
    torch.testing.assert_close(value, wanted, rtol=0, atol=0)
    for gradient, want in zip(gradients, wanted_gradients, strict=True):
        torch.testing.assert_close(gradient, want, rtol=0, atol=0)
