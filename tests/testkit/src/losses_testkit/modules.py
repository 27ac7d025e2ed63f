"""The module half of the contract: configuration, round trips, documentation, wrapping."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest
import torch

from losses_core import LOSSES, BaseLoss, build_loss
from losses_core.base_loss import OPTIONS
from losses_testkit.case import Case, to_numpy
from losses_testkit.runs import call, prepared, run

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

    def test_documentation_is_complete(self, case: Case) -> None:
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
