"""From configs to losses: what the grammar allows."""

import types
from collections import OrderedDict, UserDict, UserList
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Annotated, Any

import pytest
import torch

from losses_core import LOSSES, BaseLoss, CombinedLoss, ConfigError, build_loss, build_multi_loss
from losses_core.builder import find_faults
from losses_testkit.fake_distributions import FakeSite

from .conftest import install, only_fault
from .small_losses import GapLoss, OddLoss, SizedLoss, SquareLoss, batch, inputs

pytestmark = pytest.mark.usefixtures("losses")


def test_one_loss() -> None:
    for config in ({"type": "GapLoss"}, "GapLoss"):
        loss = build_loss(config)
        assert type(loss) is GapLoss
        assert loss.loss_weight == 1.0
    loss = build_loss({"type": "GapLoss", "eps": 0.5, "steps": 7, "loss_weight": 2.0, "reduction": "sum"})
    assert (loss.eps, loss.steps, loss.loss_weight, loss.reduction) == (0.5, 7, 2.0, "sum")
    given = GapLoss()
    assert build_loss(given) is given


def test_qualified_name(site: FakeSite) -> None:
    module = install(site, "acme-gap", "GapLoss")
    LOSSES.refresh()
    assert type(build_loss("GapLoss")) is GapLoss
    assert type(build_loss({"type": "acme-gap:GapLoss"})).__module__ == module


def test_list_and_mapping() -> None:
    loss = build_loss([{"type": "GapLoss"}, "SquareLoss", "GapLoss", GapLoss(loss_name="mine"), ("SquareLoss",)])
    assert isinstance(loss, CombinedLoss)
    assert list(loss) == ["gap", "square", "gap_2", "mine", "combined"]
    loss = build_loss(
        {"cls_loss": {"type": "SquareLoss"}, "bbox_loss": "GapLoss", "aux": {"a": "GapLoss", "b": "GapLoss"}}
    )
    assert isinstance(loss, CombinedLoss)
    assert list(loss) == ["cls_loss", "bbox_loss", "aux"]
    assert list(loss["aux"]) == ["a", "b"]
    assert type(loss["cls_loss"]) is SquareLoss


def test_build_multi_loss_always_combines() -> None:
    for config in ("GapLoss", {"type": "GapLoss"}, ["GapLoss"], {"gap": "GapLoss"}, GapLoss()):
        loss = build_multi_loss(config)
        assert type(loss) is CombinedLoss
        assert list(loss) == ["gap"]
    combined = CombinedLoss([GapLoss()])
    assert build_multi_loss(combined) is combined
    with pytest.raises(ConfigError, match=r"^loss: gap: reduction='none' gives no scalar to sum"):
        build_multi_loss({"type": "GapLoss", "reduction": "none"})
    assert build_loss({"type": "GapLoss", "reduction": "none"}).reduction == "none"


class Frozen(Mapping[str, Any]):
    """A mapping that is no dict, as OmegaConf's."""

    def __init__(self, **items: Any) -> None:
        self._items = items

    def __getitem__(self, key: str) -> Any:
        if self._items[key] == "???":
            raise RuntimeError("missing mandatory value")
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


def frozen(config: Any, mapping: type = Frozen, sequence: type = UserList) -> Any:
    if isinstance(config, dict):
        return mapping(**{key: frozen(value, mapping, sequence) for key, value in config.items()})
    return sequence([frozen(item, mapping, sequence) for item in config]) if isinstance(config, list) else config


@pytest.mark.parametrize("mapping", [Frozen, UserDict, OrderedDict, lambda **x: types.MappingProxyType(x)])
@pytest.mark.parametrize("sequence", [UserList, tuple])
def test_any_mapping_and_sequence(mapping: type, sequence: type) -> None:
    config = {"a": {"type": "GapLoss", "alpha": [1.0, 2.0]}, "b": [{"type": "SquareLoss", "weight": 2}]}
    loss = build_loss(frozen(config, mapping, sequence))
    assert loss.to_config() == build_loss(config).to_config()
    assert type(loss["a"].alpha) is (tuple if sequence is tuple else list)


def test_a_value_that_cannot_be_read() -> None:
    assert only_fault({"a": Frozen(type="GapLoss", eps="???")}) == "loss.a: cannot be read: missing mandatory value"


def test_the_input_is_not_modified_nor_kept() -> None:
    config = {"a": {"type": "GapLoss", "weight": "2e-1", "alpha": [1.0]}, "b": [{"type": "SquareLoss"}]}
    config["a"]["inputs"] = {"pred": "x", "target": "y"}  # type: ignore[call-overload]
    before = deepcopy(config)
    loss = build_loss(config)
    assert config == before
    config["a"]["alpha"].append(2.0)  # type: ignore[call-overload]
    assert loss["a"].alpha == [1.0]
    assert not find_faults(config)


def test_weight_is_another_name() -> None:
    assert build_loss({"type": "GapLoss", "weight": 0.5}).loss_weight == 0.5
    assert build_loss({"type": "GapLoss", "weight": "5e-1"}).loss_weight == 0.5
    assert only_fault({"type": "GapLoss", "weight": 0.5, "loss_weight": 0.5}) == (
        "loss.weight: this is another name for 'loss_weight', which is given as well. Keep one."
    )
    assert only_fault({"type": "GapLoss", "weight": "x"}) == "loss.weight: expected a number, got the string 'x'."
    assert only_fault({"type": "GapLoss", "weight": [1.0, 2.0]}) == (
        "loss.weight: expected a number (another name for 'loss_weight'), got [1.0, 2.0]."
    )
    assert only_fault({"type": "SizedLoss", "channels": 1, "weight": [1.0, 2.0]}).endswith(
        "got [1.0, 2.0]. Weights of classes are 'class_weight'."
    )
    own = build_loss({"type": "OddLoss", "weight": [2.0], "inputs": 3})
    assert isinstance(own, OddLoss)
    assert (own.weight, own.inputs, own.loss_weight) == ([2.0], 3, 1.0)


@pytest.mark.parametrize(
    ("parameters", "name", "value"),
    [
        ({"eps": "1e-6"}, "eps", 1e-6),
        ({"margin": "1e-6"}, "margin", 1e-6),
        ({"margin": "-1.5E+2"}, "margin", -150.0),
        ({"margin": None}, "margin", None),
        ({"alpha": "1e-1"}, "alpha", 0.1),
        ({"alpha": ["1e-1", 2, 3.0]}, "alpha", [0.1, 2, 3.0]),
        ({"alpha": ("1e-1",)}, "alpha", (0.1,)),
        ({"mode": "1e-6"}, "mode", "1e-6"),  # a string is allowed there
        ({"loss_weight": "1e-3"}, "loss_weight", 1e-3),
        ({"avg_factor": "1e3"}, "avg_factor", 1e3),
        ({"loss_name": "1e3"}, "loss_name", "1e3"),
    ],
)
def test_numbers_that_yaml_reads_as_strings(parameters: dict[str, Any], name: str, value: Any) -> None:
    got = getattr(build_loss({"type": "GapLoss"} | parameters), name)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"eps": "abc"}, "loss.eps: expected a number, got the string 'abc'."),
        ({"eps": "1e-6 "}, "loss.eps: expected a number, got the string '1e-6 '."),
        ({"margin": "none"}, "loss.margin: expected a number or null, got the string 'none'."),
        ({"steps": "1e5"}, "loss.steps: expected an integer, got the string '1e5'."),
        ({"sync_dist": "yes"}, "loss.sync_dist: expected true or false, got the string 'yes'."),
    ],
)
def test_strings_that_are_no_numbers(parameters: dict[str, Any], text: str) -> None:
    assert only_fault({"type": "GapLoss"} | parameters) == text


def test_depth_and_loops() -> None:
    config: Any = "GapLoss"
    for _ in range(60):
        config = [config]
    assert isinstance(build_loss(config), CombinedLoss)
    for _ in range(10):
        config = [config]
    assert "nested more than 64 deep" in only_fault(config)
    loop: dict[str, Any] = {}
    loop["a"] = loop
    assert "nested more than 64 deep" in only_fault(loop)
    endless: list[Any] = []
    endless.append(endless)
    assert "nested more than 64 deep" in only_fault({"type": "GapLoss", "alpha": endless})


def test_inputs() -> None:
    loss = build_loss(inputs(pred="student.logits", target="labels"))
    assert isinstance(loss, CombinedLoss)
    assert list(loss) == ["square"]
    pred, target = batch()
    assert torch.equal(loss({"student": {"logits": pred}, "labels": target}), SquareLoss()(pred, target))


def test_round_trip() -> None:
    config = {
        "a": {"type": "GapLoss", "eps": 0.5, "alpha": torch.tensor([1.0, 2.0]), "loss_weight": 0.5},
        "b": [{"type": "SizedLoss", "channels": 3, "reduction": "sum"}, {"type": "SizedLoss", "channels": 3}],
        "c": inputs(pred="x.y", target="z"),
    }
    loss = build_loss(config)
    written = loss.to_config()
    again = build_loss(written)
    assert again.to_config() == written
    assert written["a"]["alpha"] == [1.0, 2.0]
    assert written["c"]["inputs"] == {"pred": "x.y", "target": "z"}
    assert repr(again) == repr(loss)


def test_find_faults_of_a_good_config() -> None:
    assert find_faults({"type": "GapLoss"}) == []
    assert find_faults(["GapLoss", SizedLoss(3)]) == []


def test_unusual_annotations() -> None:
    """One that cannot be evaluated leaves all of them strings; Annotated is looked into; none at all is fine."""

    class UntypedLoss(BaseLoss):
        def __init__(  # type: ignore[no-untyped-def]
            self,
            a="x",
            b: "float | None" = None,
            c: "Unresolvable | float" = None,  # type: ignore[name-defined,assignment] # noqa: F821
            d: "str | float" = "",
            **options,
        ) -> None:
            super().__init__(**options)
            self.a, self.b, self.c, self.d = a, b, c, d

        def _forward(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return pred - target

    class AnnotatedLoss(GapLoss):
        def __init__(self, low: Annotated[float | None, "unit"] = None, odd: [int] = 0, **options: Any) -> None:  # type: ignore[valid-type]
            super().__init__(**options)
            self.low, self.odd = low, odd

    LOSSES.register(UntypedLoss)
    LOSSES.register(AnnotatedLoss)
    untyped: Any = build_loss({"type": "UntypedLoss", "a": "1e-6", "b": "1e-6", "c": "1e-6", "d": "1e-6"})
    assert (untyped.a, untyped.b, untyped.c, untyped.d) == ("1e-6", 1e-6, 1e-6, "1e-6")
    assert only_fault({"type": "UntypedLoss", "b": "x"}).startswith("loss.b: expected a number or null")
    annotated: Any = build_loss({"type": "AnnotatedLoss", "low": "1e-6", "odd": "1e-6"})
    assert (annotated.low, annotated.odd) == (1e-6, "1e-6")


def test_sequences_of_losses_are_no_strings() -> None:
    class Letters(Sequence[Any]):
        def __getitem__(self, index: Any) -> Any:
            return ["GapLoss", "SquareLoss"][index]

        def __len__(self) -> int:
            return 2

    assert list(build_multi_loss(Letters())) == ["gap", "square"]
