"""What a combination has of its own: a weight, a name, and a word about members that ignore different labels."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from losses_core import BaseLoss, CombinedLoss, ConfigError, InputError, Unreduced, build_loss
from losses_core.interop import compute_loss_func
from losses_core.weighting import UncertaintyWeighting

from .conftest import only_fault
from .small_losses import GapLoss, SquareLoss, batch


def nested(**options: Any) -> CombinedLoss:
    inner = CombinedLoss({"a": SquareLoss(loss_weight=0.5), "b": GapLoss()}, loss_weight=0.1)
    return CombinedLoss({"gap": GapLoss(loss_weight=3.0), "aux": inner}, **options)


def test_the_weight_of_a_combination_multiplies() -> None:
    pred, target = batch()
    gap, square = GapLoss()(pred, target), SquareLoss()(pred, target)
    criterion = nested(loss_weight=2.0)
    terms = criterion.terms(pred, target)
    torch.testing.assert_close(terms.total, 2 * (3 * gap + 0.1 * (0.5 * square + gap)))
    torch.testing.assert_close(criterion(pred, target), terms.total)
    assert terms.weights == {"gap": 6.0, "aux.a": 0.1, "aux.b": 0.2}
    torch.testing.assert_close(terms.raw["aux.a"], square)
    criterion.loss_weight = 0.3
    criterion["aux"].loss_weight = 0.0
    torch.testing.assert_close(criterion(pred, target), 0.9 * gap)
    torch.testing.assert_close(compute_loss_func(criterion)({"logits": pred}, target), 0.9 * gap)


def test_it_multiplies_what_a_weighting_adds_too() -> None:
    pred, target = batch()
    criterion = CombinedLoss([GapLoss(), SquareLoss()], weighting=UncertaintyWeighting())
    with torch.no_grad():
        criterion.weighting.log_variance += torch.tensor([0.5, -1.0])  # type: ignore[union-attr,operator]
    plain = criterion.terms(pred, target)
    criterion.loss_weight = 0.25
    scaled = criterion.terms(pred, target)
    torch.testing.assert_close(scaled.total, 0.25 * plain.total)
    torch.testing.assert_close(dict(scaled), {label: 0.25 * term for label, term in plain.items()})


@pytest.mark.parametrize("owner", ["criterion", "aux", "member"])
def test_a_learned_weight(owner: str) -> None:
    pred, target = batch()
    criterion = nested()
    loss: Any = {"criterion": criterion, "aux": criterion["aux"], "member": criterion["gap"]}[owner]
    loss.loss_weight = nn.Parameter(torch.tensor([0.5], dtype=torch.float64))
    terms = criterion.terms(pred, target)
    assert terms.total.dtype == torch.float32
    assert all(term.shape == () for term in terms.values())
    terms.total.backward()
    parts = {"criterion": list(terms), "aux": ["aux.a", "aux.b"], "member": ["gap"]}[owner]
    expected = sum(terms[label] for label in parts) / 0.5
    torch.testing.assert_close(loss.loss_weight.grad.item(), expected.item())
    loss.loss_weight = nn.Parameter(torch.ones(2))
    with pytest.raises(InputError, match=r"loss_weight: expected one number; got a tensor of shape \(2,\)"):
        criterion(pred, target)


def test_in_a_config(losses: None) -> None:
    config = {"type": "CombinedLoss", "losses": {"gap": "GapLoss"}, "loss_weight": "5e-1"}
    loss = build_loss({"a": config, "b": {"type": "SquareLoss"}})
    assert loss["a"].loss_weight == 0.5
    written = loss.to_config()
    assert (written["a"]["type"], written["a"]["loss_weight"]) == ("CombinedLoss", 0.5)
    again = build_loss(written)
    assert again.to_config() == written
    assert repr(again) == repr(loss)
    assert "loss_weight=0.5" in repr(again)
    pred, target = batch()
    torch.testing.assert_close(again(pred, target), loss(pred, target))
    loss["a"].loss_weight = torch.tensor(1.0)
    assert "type" not in loss.to_config()["a"]
    # neither weight of a combination of a combination is lost
    twice = build_loss({"type": "CombinedLoss", "losses": config, "loss_weight": 3})
    torch.testing.assert_close(twice(pred, target), 1.5 * GapLoss()(pred, target))
    assert only_fault({**config, "loss_weight": "x"}) == "loss.loss_weight: expected a number, got the string 'x'."
    assert only_fault({**config, "loss_weight": [1]}) == "loss: CombinedLoss: loss_weight: expected a number; got [1]."
    assert only_fault({**config, "loss_weight": float("nan")}).startswith("loss: CombinedLoss: loss_weight: expected")
    with pytest.raises(TypeError, match="CombinedLoss: loss_weight: expected a number; got a tensor"):
        CombinedLoss([GapLoss()], loss_weight=torch.tensor(1.0))  # type: ignore[arg-type]


def test_what_belongs_to_the_combination_is_no_term(losses: None) -> None:
    for name, value in {"weighting": {"type": "UncertaintyWeighting"}, "loss_weight": 0.5}.items():
        text = only_fault({"gap": "GapLoss", name: value})
        assert text.startswith(f"loss.{name}: '{name}' cannot be a label")
        assert f"It goes beside 'losses': {{type: CombinedLoss, losses: {{…}}, {name}: …}}." in text


def test_it_has_a_name_for_heads_of_mmseg() -> None:
    assert CombinedLoss([GapLoss()]).loss_name == "loss_combined"
    with pytest.raises(ConfigError, match="cannot be a label"):
        CombinedLoss({"loss_name": GapLoss()})


def test_compile_with_a_weight_that_changes() -> None:
    torch._dynamo.reset()
    graphs = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    criterion = nested()
    compiled = torch.compile(criterion, fullgraph=True, backend=backend)
    pred, target = batch()
    for weight in (0.3, 0.5, 0.25, 1.0, 1 / 3, 2.0):
        criterion.loss_weight = weight
        torch.testing.assert_close(compiled(pred, target), criterion(pred, target))
    assert len(graphs) <= 2


class ClassLoss(BaseLoss):
    def __init__(self, ignore_index: int | None = -100, **options: Any) -> None:
        super().__init__(**options)
        self.ignore_index = ignore_index

    def _forward(self, pred: Tensor, target: Tensor, *, ignore_index: int | None) -> Unreduced:
        ignored = torch.zeros_like(target) if ignore_index is None else target == ignore_index
        return Unreduced(pred.square().mean(1), 1 - ignored.float())


class PixelLoss(ClassLoss):
    def __init__(self, ignore_index: int | None = 255, **options: Any) -> None:
        super().__init__(ignore_index, **options)


def on_meta() -> tuple[Tensor, Tensor]:
    """Where values are not looked at, as on an accelerator."""
    return torch.zeros(2, 3, 4, device="meta"), torch.zeros(2, 4, dtype=torch.long, device="meta")


def test_members_that_ignore_different_labels_by_default_warn_once() -> None:
    criterion = CombinedLoss({"ce": ClassLoss(), "aux": CombinedLoss({"dice": PixelLoss()})})
    with pytest.warns(UserWarning) as caught:
        criterion(*on_meta())
    assert len(caught) == 1
    text = str(caught[0].message)
    assert "'ce' ignores -100, 'aux.dice' ignores 255" in text
    assert "Give all the same ignore_index" in text
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        criterion(*on_meta())


@pytest.mark.parametrize(
    ("first", "second", "call"),
    [
        (ClassLoss(255), PixelLoss(), {}),
        (ClassLoss(0), PixelLoss(7), {}),  # meant
        (ClassLoss(None), PixelLoss(), {}),
        (ClassLoss(), GapLoss(), {}),
        (ClassLoss(), PixelLoss(), {"ignore_index": 255}),
        (ClassLoss(), PixelLoss(), {"ignore_index": None}),
        (ClassLoss(), PixelLoss(), {"target": {"a": on_meta()[1], "b": on_meta()[1]}}),
    ],
)
def test_members_that_do_not_warn(first: BaseLoss, second: BaseLoss, call: dict[str, Any]) -> None:
    pred, target = on_meta()
    if isinstance(second, GapLoss):
        pred = pred[:, 0]
        first = SquareLoss()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CombinedLoss({"a": first, "b": second})(**{"pred": pred, "target": target, **call})


def test_on_the_cpu_the_label_itself_is_an_error_so_nothing_is_said() -> None:
    criterion = CombinedLoss([ClassLoss(), PixelLoss()])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        criterion(torch.zeros(2, 3, 4), torch.zeros(2, 4, dtype=torch.long))
