"""Combined losses: terms, labels, and life as a module."""

import copy
import gc
import pickle
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from losses_core import BaseLoss, CombinedLoss, ConfigError, InputError, LossTerms, build_loss

from .small_losses import BatchLoss, GapLoss, SizedLoss, SquareLoss, batch


def combined() -> CombinedLoss:
    return CombinedLoss(
        {
            "gap": GapLoss(loss_weight=0.3),
            "aux": CombinedLoss([SquareLoss(loss_weight=0.7), SquareLoss(reduction="sum")]),
            "head": SizedLoss(3),
        }
    )


def test_it_is_the_weighted_sum() -> None:
    pred, target = batch()
    terms = combined().terms(pred, target)
    gap, square = GapLoss()(pred, target), SquareLoss()(pred, target)
    assert list(terms) == ["gap", "aux.square", "aux.square_2", "head"]
    assert len(terms) == 4
    torch.testing.assert_close(terms.raw["gap"], gap)
    torch.testing.assert_close(terms["gap"], 0.3 * gap)
    torch.testing.assert_close(terms["aux.square"], 0.7 * square)
    torch.testing.assert_close(terms["aux.square_2"], 12 * square)
    assert dict(terms.weights) == {"gap": 0.3, "aux.square": 0.7, "aux.square_2": 1.0, "head": 1.0}
    assert torch.equal(sum(terms.values()), terms.total)  # type: ignore[arg-type]
    assert torch.equal(terms.stack(), torch.stack(list(terms.values())))
    assert torch.equal(combined()(pred, target), terms.total)
    assert "gap" in repr(terms)
    assert terms == terms
    assert len({terms}) == 1


def test_the_gradient_is_that_of_the_sum() -> None:
    pred, target = batch()
    (found,) = torch.autograd.grad(combined()(pred, target), pred)
    by_hand = 0.3 * GapLoss()(pred, target) + 12.7 * SquareLoss()(pred, target) + SizedLoss(3)(pred, target)
    torch.testing.assert_close(found, torch.autograd.grad(by_hand, pred)[0])


def test_each_member_is_evaluated_once() -> None:
    calls = []

    class CountingLoss(GapLoss):
        def _forward(self, pred: Tensor, target: Tensor) -> Tensor:
            calls.append(1)
            return super()._forward(pred, target)

    criterion = CombinedLoss([CountingLoss(), CombinedLoss([CountingLoss()])])
    criterion.terms(*batch())
    assert len(calls) == 2
    criterion(*batch())
    assert len(calls) == 4


def test_log_dict_may_hold_raw_values_and_weights() -> None:
    gap = GapLoss(loss_weight=2.0)
    gap.loss_weight = torch.nn.Parameter(torch.tensor(3.0))
    pred, target = batch()
    terms = CombinedLoss({"gap": gap, "square": SquareLoss(loss_weight=0.5)}).terms(pred.requires_grad_(), target)
    logged = terms.log_dict("train/", raw=True, weights=True)
    assert list(logged)[3:] == ["train/raw/gap", "train/raw/square", "train/weight/gap", "train/weight/square"]
    assert not any(value.requires_grad for value in logged.values())
    for label in terms:
        assert logged[f"train/loss/{label}"] == logged[f"train/raw/{label}"] * logged[f"train/weight/{label}"]


def test_one_loss_has_terms() -> None:
    loss, (pred, target) = GapLoss(loss_weight=2.0, loss_name="gap"), batch()
    terms = loss.terms(pred.requires_grad_(), target, torch.ones(4), avg_factor=3.0)
    assert list(terms) == ["gap"] and terms.weights == {"gap": 2.0}
    assert torch.equal(terms.total, loss(pred, target, torch.ones(4), avg_factor=3.0))
    assert torch.equal(terms.raw["gap"] * 2, terms["gap"])
    terms.total.backward()
    with pytest.raises(InputError, match=r"GapLoss: expected a reduction to a scalar, .* got 'none'"):
        loss.terms(pred, target, reduction_override="none")


def test_log_dict_and_to_mm() -> None:
    terms = combined().terms(*batch())
    logged = terms.log_dict("train/")
    assert list(logged) == [f"train/loss/{name}" for name in (*terms, "total")]
    assert list(terms.log_dict()) == [f"loss/{name}" for name in (*terms, "total")]
    for name, tensor in logged.items():
        assert not tensor.requires_grad
        assert tensor.grad_fn is None
        assert torch.equal(tensor, {**terms, "total": terms.total}[name.removeprefix("train/loss/")])
    mm = terms.to_mm()
    assert list(mm) == [f"loss_{name}" for name in terms]
    # what mmengine does with it
    assert torch.equal(sum(value for key, value in mm.items() if "loss" in key), terms.total)  # type: ignore[arg-type]
    sum(mm.values()).backward()  # type: ignore[union-attr]


def test_logged_tensors_hold_no_memory_of_the_step() -> None:
    """Neither the graph nor a large tensor that a term is a view of."""

    class ViewLoss(BaseLoss):
        def _forward(self, pred: Tensor, target: Tensor) -> Tensor:
            return (pred - target).flatten()[0]

    class Saved:
        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor
            held.add(self)

    held: weakref.WeakSet[Saved] = weakref.WeakSet()
    pred, target = batch(100, 100)
    with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.tensor):
        terms = CombinedLoss([ViewLoss(), GapLoss()]).terms(pred, target)
    logged = terms.log_dict()
    assert len(held) > 0
    del terms
    gc.collect()
    assert len(held) == 0
    assert all(tensor.untyped_storage().nbytes() <= 8 for tensor in logged.values())


def test_logged_tensors_are_copies() -> None:
    """A replay of a CUDA graph writes over its outputs; what was logged stays."""
    terms = combined().terms(*batch())
    logged = terms.log_dict()
    before = terms["gap"].item()
    with torch.no_grad():
        terms["gap"].fill_(-1.0)
    assert logged["loss/gap"].item() == before


def test_terms_of_two_precisions() -> None:
    wide = tuple(tensor.double().detach() for tensor in batch())
    criterion = CombinedLoss({"a": GapLoss(), "b": SquareLoss()})
    terms = criterion.terms({"a": batch()[0], "b": wide[0]}, {"a": batch()[1], "b": wide[1]})
    assert terms.total.dtype == terms.stack().dtype == torch.float64
    assert torch.equal(sum(terms.values()), terms.total)  # type: ignore[arg-type]


def test_labels_of_a_list() -> None:
    losses = [GapLoss(), GapLoss(loss_name="gap_2"), GapLoss(), SquareLoss(), GapLoss(loss_name="square")]
    assert list(CombinedLoss(losses)) == ["gap", "gap_2", "gap_3", "square", "square_2"]
    assert list(CombinedLoss((CombinedLoss([GapLoss()]), CombinedLoss([GapLoss()])))) == ["combined", "combined_2"]


@pytest.mark.parametrize(
    ("losses", "text"),
    [
        ([], "expected at least one loss"),
        ({}, "expected at least one loss"),
        ("GapLoss", "expected a mapping or a list of losses, got 'GapLoss'"),
        (GapLoss(), "expected a mapping or a list of losses, got GapLoss"),
        ([nn.L1Loss()], r"expected a loss \(a BaseLoss or a CombinedLoss\), got L1Loss"),
        ({"a": 3}, "expected a loss .*, got 3"),
        ([GapLoss(reduction="none")], "gap: reduction='none' gives no scalar to sum. Use 'mean' or 'sum'."),
    ],
)
def test_what_cannot_be_combined(losses: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        CombinedLoss(losses)


def test_a_term_that_is_no_scalar() -> None:
    criterion = CombinedLoss({"a": GapLoss(), "b": CombinedLoss({"c": BatchLoss()})})
    pred, target = batch()
    with pytest.raises(InputError, match=r"term 'a': reduction='none' gives shape \(4, 3\) and a sum needs a scalar"):
        criterion(pred, target, reduction_override="none")
    criterion["a"].reduction = "none"
    with pytest.raises(InputError, match="term 'a': reduction='none'"):
        criterion(pred, target)
    # one scalar for the batch is a scalar under every reduction
    assert CombinedLoss([BatchLoss()])(pred, target, reduction_override="none").ndim == 0


def test_it_is_like_a_module_dict() -> None:
    criterion = combined()
    assert len(criterion) == 3
    assert "gap" in criterion
    assert "banana" not in criterion
    assert list(criterion) == list(criterion.keys()) == [name for name, _ in criterion.items()]
    assert criterion["gap"] is criterion.gap is next(iter(criterion.values()))
    assert [name for name, _ in criterion.named_parameters()] == ["head.adapter.weight"]
    assert list(criterion.state_dict()) == ["head.adapter.weight"]
    with pytest.raises(KeyError):
        criterion["banana"]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_copies(copied: Any) -> None:
    criterion = combined()
    nn.init.constant_(criterion["head"].adapter.weight, 0.5)
    again = copied(criterion)
    pred, target = batch()
    assert torch.equal(again(pred, target), criterion(pred, target))
    assert again["head"].adapter.weight is not criterion["head"].adapter.weight
    data = {"a": {"b": pred}, "c": target}
    routed = CombinedLoss([SquareLoss()], {"square": {"pred": "a.b", "target": "c"}})
    assert torch.equal(copied(routed)(data), routed(data))


def test_state_dict_and_dtype() -> None:
    criterion, other = combined(), combined()
    nn.init.constant_(criterion["head"].adapter.weight, 0.5)
    other.load_state_dict(criterion.state_dict())
    assert torch.equal(other(*batch()), criterion(*batch()))
    assert criterion.double()["head"].adapter.weight.dtype == torch.float64


def test_to_config_is_the_config(losses: None) -> None:
    criterion = CombinedLoss(
        {"a": GapLoss(alpha=[1.0]), "b": CombinedLoss([SquareLoss()]), "c": SquareLoss(loss_weight=0.1)},
        {"c": {"pred": "x.y", "target": "z"}},
    )
    config = criterion.to_config()
    assert config["a"]["type"] == "GapLoss"
    assert config["b"]["square"]["type"] == "SquareLoss"
    assert config["c"]["inputs"] == {"pred": "x.y", "target": "z"}
    assert build_loss(config).to_config() == config


def test_a_schedule_of_weights() -> None:
    criterion = combined()
    pred, target = batch()
    before = criterion.terms(pred, target)
    criterion["gap"].loss_weight = 3.0
    after = criterion.terms(pred, target)
    torch.testing.assert_close(after["gap"], 10 * before["gap"])
    assert torch.equal(after["head"], before["head"])
    assert after.weights["gap"] == 3.0


def test_loss_terms_of_ones_own() -> None:
    terms = LossTerms({"a": torch.tensor(2.0)}, {"a": 0.5})
    assert terms.total == terms["a"] == 1.0
    with pytest.raises(KeyError):
        terms["b"]


@pytest.mark.parametrize("dynamic", [None, True])
def test_compile_in_one_graph(dynamic: bool | None) -> None:
    torch._dynamo.reset()
    criterion = combined()
    compiled = torch.compile(criterion, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for rows in (4, 7):
        pred, target = batch(rows, 3)
        value = compiled(pred, target)
        torch.testing.assert_close(value, criterion(pred, target))
        (found,) = torch.autograd.grad(value, pred)
        torch.testing.assert_close(found, torch.autograd.grad(criterion(pred, target), pred)[0])


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # by torch itself
def test_compile_terms_routing_and_inputs() -> None:
    torch._dynamo.reset()
    criterion = CombinedLoss(
        {"a": GapLoss(), "b": CombinedLoss({"c": SquareLoss()}), "d": SquareLoss()},
        {"d": {"pred": "student.0", "target": "label", "mask": "mask"}},
    )
    pred, target = batch()
    more = [batch(seed=seed)[0] for seed in (1, 2)]
    data = {"a": pred, "b": more[0], "student": [more[1]], "label": target, "mask": (target > 0).float()}
    compiled = torch.compile(criterion.terms, fullgraph=True, backend="aot_eager")
    for weight in (None, {"a": torch.rand(4)}):
        found, expected = compiled(data, target, weight), criterion.terms(data, target, weight)
        assert isinstance(found, LossTerms)
        torch.testing.assert_close(dict(found), dict(expected))
        torch.testing.assert_close(found.log_dict(), expected.log_dict())


def test_a_schedule_recompiles_at_most_once() -> None:
    torch._dynamo.reset()
    graphs = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    criterion = combined()
    compiled = torch.compile(criterion, fullgraph=True, backend=backend)
    pred, target = batch()
    for weight in (0.3, 0.5, 0.25, 1.0, 1 / 3, 2.0, 0.0):
        criterion["gap"].loss_weight = weight
        torch.testing.assert_close(compiled(pred, target), criterion(pred, target))
    assert len(graphs) <= 2
