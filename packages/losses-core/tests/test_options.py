"""The name and the weight of a loss, which is learned where it is a parameter."""

import copy
import pickle
import sys
import types
import warnings
from typing import Any

import pytest
import torch
from torch import nn

from losses_core import BaseLoss, ConfigError, InputError, build_loss, check_optimizer, trainable_parameters

from .small_losses import GapLoss, SizedLoss, SquareLoss, batch


def test_a_loss_without_a_name_reads_back_one_with_loss_in_it(losses: None) -> None:
    loss = GapLoss()
    assert (loss.loss_name, loss.label) == ("loss_gap", "gap")
    assert loss.parameters_as_given()["loss_name"] is None
    assert loss.to_config()["loss_name"] is None
    assert "loss_name" not in repr(loss)
    again = build_loss(loss.to_config())
    assert (again.loss_name, again.label) == ("loss_gap", "gap")


def test_a_name_reads_back_as_given(losses: None) -> None:
    for name in ("loss_decode", "x"):
        loss = GapLoss(loss_name=name)
        assert (loss.loss_name, loss.label) == (name, name)
        assert loss.parameters_as_given()["loss_name"] == loss.to_config()["loss_name"] == name
        for twin in (build_loss(loss.to_config()), copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
            assert twin.loss_name == name
    loss.loss_name = "loss_aux"
    assert (loss.loss_name, loss.label) == ("loss_aux", "loss_aux")
    with pytest.raises(TypeError, match="GapLoss: loss_name: expected a string or None; got 3"):
        loss.loss_name = 3  # type: ignore[assignment]
    with pytest.raises(ConfigError, match=r"GapLoss: loss_name: expected a name .* printable; got '\\x1b\[31m'"):
        GapLoss(loss_name="\x1b[31m")


def test_a_name_that_mmengine_does_not_train_warns_where_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monkeypatch.delitem(sys.modules, "mmengine", raising=False)
        assert GapLoss(loss_name="gap").loss_name == "gap"
        monkeypatch.setitem(sys.modules, "mmengine", types.ModuleType("mmengine"))
        assert GapLoss(loss_name="loss_gap").loss_name == "loss_gap"
        loss = GapLoss(loss_name="gap")
        assert loss.label == "gap"  # nor do logs, configs and reprs
        assert "loss_name='gap'" in repr(loss)
    with pytest.warns(UserWarning, match="Name it 'loss_gap' to train it"):
        assert loss.loss_name == "gap"


@pytest.mark.parametrize("shape", [(), (1,)])
@pytest.mark.parametrize("cls", [GapLoss, SquareLoss])
def test_a_learned_weight_gets_a_gradient(cls: type[BaseLoss], shape: tuple[int, ...]) -> None:
    pred, target = batch()
    expected = cls()(pred, target)
    for reduction in ("mean", "sum", "none"):
        loss = cls(reduction=reduction)
        loss.loss_weight = nn.Parameter(torch.full(shape, 0.5, dtype=torch.float64))
        value = loss(pred, target)
        plain = cls(reduction=reduction)(pred, target)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, plain * 0.5)
        value.sum().backward()
        torch.testing.assert_close(loss.loss_weight.grad, plain.sum().detach().double().reshape(shape))
    optimizer = torch.optim.SGD(trainable_parameters(nn.Linear(1, 1), loss), lr=0.1)
    check_optimizer(optimizer, loss)
    with pytest.raises(ConfigError, match="loss_weight"):
        check_optimizer(torch.optim.SGD([pred], lr=0.1), loss)
    assert expected.ndim == 0


def test_a_learned_weight_in_a_config_is_the_number_that_it_is(losses: None) -> None:
    loss = GapLoss()
    loss.loss_weight = nn.Parameter(torch.tensor([0.5]))
    assert loss.to_config()["loss_weight"] == 0.5
    assert "loss_weight=0.5" in repr(loss)
    assert build_loss(loss.to_config()).loss_weight == 0.5
    assert list(loss.state_dict()) == ["loss_weight"]


def test_what_is_no_weight() -> None:
    pred, target = batch()
    loss = GapLoss()
    loss.loss_weight = nn.Parameter(torch.ones(4))
    with pytest.raises(InputError, match=r"loss_weight: expected one number; got a tensor of shape \(4,\)"):
        loss(pred, target)
    with pytest.raises(TypeError, match=r"GapLoss: loss_weight: .* is assigned to the loss: loss\.loss_weight = "):
        GapLoss(loss_weight=torch.tensor(1.0))  # type: ignore[arg-type]


def test_compile_with_a_learned_weight() -> None:
    torch._dynamo.reset()
    pred, target = batch()
    loss = SquareLoss()
    loss.loss_weight = nn.Parameter(torch.tensor(0.5))
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    (found,) = torch.autograd.grad(compiled(pred, target), [loss.loss_weight])
    torch.testing.assert_close(found, SquareLoss()(pred, target).detach())


class Output(dict[str, Any]):
    """As the outputs of Hugging Face's models: a mapping with attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


@pytest.mark.parametrize(
    ("wrap", "text"),
    [
        (lambda x: Output(loss=None, hidden=x, logits=x), "got Output: give pred.logits."),
        (lambda x: Output(hidden_states=x), "got Output: give pred.hidden_states."),
        (lambda x: {"aux": x, "out": x}, "got dict: give pred['out']."),
        (lambda x: {"aux": x, 3: x}, "got dict: give pred['aux']."),
        (lambda x: {}, "got dict."),
        (lambda x: types.SimpleNamespace(logits=x), "got SimpleNamespace: give pred.logits."),
        (lambda x: types.SimpleNamespace(other=x), "got SimpleNamespace."),
        (lambda x: None, "got NoneType."),
    ],
)
def test_the_output_of_a_model_in_place_of_pred(wrap: Any, text: str) -> None:
    pred, target = batch()
    for loss in (GapLoss(), SizedLoss(3)):
        with pytest.raises(InputError) as caught:
            loss(wrap(pred), target)
        assert str(caught.value).startswith(f"{type(loss).__name__}: expected pred as a")
        assert str(caught.value).endswith(text)
