"""`config_schema`: it refuses what is faulty, and nothing that is not; held against the builder."""

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Optional, Union

import pytest
from jsonschema import Draft7Validator
from torch import Tensor

from losses_core import LOSSES, BaseLoss, ConfigError
from losses_core._docstring import parameter_texts
from losses_core.builder import find_faults
from losses_core.combined import check_label
from losses_core.schema import config_schema, parameter_schemas
from losses_testkit.fake_distributions import FakeSite

from .conftest import GROUP, install
from .small_losses import SMALL_LOSSES

pytestmark = pytest.mark.usefixtures("losses")

PATHS = {"pred": "student.logits", "target": "teacher.stages.0"}
GOOD = [
    "GapLoss",
    {"type": "GapLoss"},
    {"type": "GapLoss", "eps": 1e-6, "margin": None, "alpha": [0.25, 0.75], "steps": 2, "mode": "x"},
    {"type": "GapLoss", "eps": "1e-6", "margin": "-.5E+3", "alpha": ["1e-2", 1]},
    {"type": "GapLoss", "mode": 0.5},
    {"type": "GapLoss", "weight": 0.5},
    {"type": "GapLoss", "loss_weight": "2e0", "reduction": "none", "loss_name": "gap", "sync_dist": True},
    {"type": "SizedLoss", "channels": 3, "mode": "b", "class_weight": [1, 2, 3]},
    {"type": "OddLoss", "weight": [1.0], "inputs": 3, "loss_weight": 2},
    ["GapLoss", {"type": "GapLoss"}, ["SquareLoss"]],
    {"a": "GapLoss", "b-c": {"inner": {"type": "SquareLoss", "weight": 2}}, "häß": ["GapLoss", "GapLoss"]},
    {"kd": {"type": "GapLoss", "inputs": PATHS}},
    {"type": "SquareLoss", "inputs": {**PATHS, "mask": "mask", "weight": "w", "avg_factor": "n"}},
    {"a": {"b": [{"type": "SquareLoss", "inputs": PATHS}]}},
    {"type": "LayeredLoss", "loss": ["GapLoss", "SquareLoss"], "weights": [1, 0.5], "resize": None, "loss_weight": 2},
    {"type": "LayeredLoss", "loss": {"type": "SquareLoss"}, "weights": "exp", "resize": "area"},
    {"type": "ChunkedLoss", "loss": {"type": "GapLoss", "weight": 2}, "chunk_size": 64, "over": "batch"},
]
BAD = [
    "GapLos",
    {"type": "LayeredLoss"},
    {"type": "LayeredLoss", "loss": "GapLos"},
    {"type": "LayeredLoss", "loss": "GapLoss", "weights": "linear"},
    {"type": "ChunkedLoss", "loss": "GapLoss", "over": "columns"},
    {"type": "ChunkedLoss", "loss": "GapLoss", "chunk_siz": 3},
    "losses_core:GapLoss",
    None,
    3,
    [],
    {},
    [[]],
    ["GapLoss", None],
    {"type": "GapLos"},
    {"type": None},
    {"type": ["GapLoss"]},
    {"type": "GapLoss", "ep": 1},
    {"type": "GapLoss", "eps": "small"},
    {"type": "GapLoss", "eps": "1e-6 "},
    {"type": "GapLoss", "steps": "3"},
    {"type": "GapLoss", "reduction": "avg"},
    {"type": "GapLoss", "sync_dist": "yes"},
    {"type": "GapLoss", "loss_weight": None},
    {"type": "GapLoss", "loss_weight": True},
    {"type": "GapLoss", "weight": 1, "loss_weight": 1},
    {"type": "GapLoss", "weight": [1.0, 2.0]},
    {"type": "SizedLoss"},
    {"type": "SizedLoss", "mode": "a"},
    {"type": "OddLoss"},
    {"a.b": "GapLoss"},
    {"": "GapLoss"},
    {"train": "GapLoss"},
    {"total": "GapLoss"},
    {"a": {"type": "GapLoss", "gama": 1}},
    {"a": ["GapLoss", {"b": "GapLos"}]},
    {"type": "GapLoss", "inputs": {"pred": "a"}},
    {"type": "GapLoss", "inputs": {"pred": "a", "target": "b..c"}},
    {"type": "GapLoss", "inputs": {"pred": "a", "target": ""}},
    {"type": "GapLoss", "inputs": {"pred": "a", "target": "b", "mask": "c"}},
    {"type": "GapLoss", "inputs": "a"},
    {"kd": {"type": "SquareLoss", "inputs": {"pred": 0, "target": "b"}}},
]


def validator(key: str | None = None) -> Draft7Validator:
    schema = json.loads(json.dumps(config_schema(key), allow_nan=False))
    Draft7Validator.check_schema(schema)
    return Draft7Validator(schema)


@pytest.mark.parametrize("config", GOOD, ids=str)
def test_accepts(config: Any) -> None:
    assert not find_faults(copy.deepcopy(config))
    validator().validate(config)


@pytest.mark.parametrize("config", BAD, ids=str)
def test_refuses(config: Any) -> None:
    assert find_faults(copy.deepcopy(config))
    assert not validator().is_valid(config)


def test_key() -> None:
    check = validator("train.loss")
    assert check.is_valid({"train": {"loss": "GapLoss", "epochs": 3}, "$schema": "losses.schema.json"})
    for content in ({}, {"train": {}}, {"train": {"loss": "GapLos"}}, "GapLoss"):
        assert not check.is_valid(content)


def test_defaults_validate() -> None:
    check = validator()
    for cls in SMALL_LOSSES:
        schemas = parameter_schemas(cls)
        config = {"type": cls.__name__, **{name: schema.get("default", [2]) for name, schema in schemas.items()}}
        if cls.__name__ == "SizedLoss":
            config["channels"] = 3
        check.validate(config)


def test_labels_that_a_module_cannot_hold() -> None:
    schema = config_schema()["definitions"]["config"]["allOf"][3]["then"]["propertyNames"]
    names = Draft7Validator(schema)
    for label in [*schema["not"]["enum"], "a", "cls_loss", "a.b", "", "Ärger", "_x", "loss"]:
        try:
            check_label(label)
        except ConfigError:
            assert not names.is_valid(label), label
        else:
            assert names.is_valid(label), label


class Everything(BaseLoss):
    r"""A loss with every kind of annotation.

    Args:
        number: a number
            on two lines, ``> 0``.

            And a paragraph.
        *args, other: nothing.
        words: some.

    Shape:
        number: not this one.
    """

    def __init__(
        self,
        number: float = 1,
        words: Sequence[str] = (),
        pair: tuple[int, int] = (1, 2),
        literal: Literal["a", 1] | None = None,
        mixed: Literal["auto"] | float = "auto",
        union: Union[int, Optional[bool]] = None,  # noqa: UP007, UP045
        mapping: Mapping[str, int] | None = None,
        tensor: Tensor | None = None,
        only_tensor: Tensor = None,  # type: ignore[assignment]
        wrong: float = None,  # type: ignore[assignment]  # noqa: RUF013
        untyped=(1, 2),  # type: ignore[no-untyped-def]
        unknown: "Missing | float" = 0.0,  # type: ignore[name-defined]  # noqa: F821
        infinite: float = float("inf"),
        plain: list = [1],  # type: ignore[type-arg]  # noqa: B006
        **options: Any,
    ) -> None:
        super().__init__(**options)

    def _forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return pred


def test_annotations() -> None:
    LOSSES.register(Everything)
    found = parameter_schemas(Everything)
    assert found["number"]["description"] == "a number on two lines, `> 0`. And a paragraph."
    assert found["words"]["description"] == "some."
    check = validator()
    good = {
        "number": [0.5, 2, "1e-3"],
        "words": [[], ["a"]],
        "pair": [[1, 2]],
        "literal": ["a", 1, None],
        "mixed": ["auto", 0.5, "1e-2"],
        "union": [1, True, None],
        "mapping": [{"a": 1}, None],
        "tensor": [None],
        "wrong": [0.5, None],
        "untyped": [1, "a", [1]],
        "infinite": [1.0],
        "plain": [[], [1, "a"]],
    }
    bad = {
        "number": ["x", None, True, [1]],
        "words": ["a", [1], None],
        "pair": [1, ["a", "b"]],
        "literal": ["b", 2],
        "mixed": ["none", None],
        "union": [1.5, "1"],
        "tensor": [1.0, "a"],
        "wrong": ["a"],
        "infinite": ["a"],
        "plain": [1],
    }
    for name, values in good.items():
        for value in values:
            check.validate({"type": "Everything", name: value})
    for name, values in bad.items():
        for value in values:
            assert not check.is_valid({"type": "Everything", name: value}), (name, value)
    assert found["infinite"].keys() == {"type", "pattern"}  # no default: JSON has no infinity
    check.validate({"type": "Everything", **{name: s["default"] for name, s in found.items() if "default" in s}})


class Nearer(Everything):
    """One text of its own.

    Args:
        number: nearer.
    """


def test_texts_of_the_nearest_class() -> None:
    texts = parameter_texts(Nearer)
    assert (texts["number"], texts["words"]) == ("nearer.", "some.")
    assert texts["sync_dist"].startswith("normalise over all ranks of `torch.distributed`")


class Checked(BaseLoss):
    """A loss whose constructor checks."""

    def __init__(
        self, gamma: float = 2.0, alpha: Any = None, mode: str | Sequence[int] = "all", **options: Any
    ) -> None:
        from losses_core.utils import checks

        super().__init__(**options)
        self.gamma = checks.number(self, "gamma", gamma, low=0, below=10)
        self._set_vector("alpha", alpha)
        self.mode = checks.choice(self, "mode", mode, ("all", "present")) if isinstance(mode, str) else mode
        self.count = checks.number(self, "count", 1, low=1)

    def _forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return pred


def test_limits_are_those_of_the_constructor() -> None:
    LOSSES.register(Checked)
    check = validator()
    config: dict[str, Any] = {"type": "Checked"}
    for parameters in ({"gamma": 0}, {"gamma": 9.9}, {"mode": "present"}, {"mode": [3]}):
        assert not find_faults(config | parameters)
        check.validate(config | parameters)
    for parameters in ({"gamma": -1}, {"gamma": 10}, {"mode": "some"}, {"count": 1}):
        assert find_faults(config | parameters)
        assert not check.is_valid(config | parameters), parameters


class BareLoss(BaseLoss):
    """Takes none of the common options."""

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = alpha

    def _forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return self.alpha * (pred - target).abs()


def test_a_loss_without_the_common_options() -> None:
    LOSSES.register(BareLoss)
    validator = Draft7Validator(config_schema())
    assert validator.is_valid({"type": "BareLoss", "alpha": 2})
    assert not validator.is_valid({"type": "BareLoss", "weight": 2})


def test_plug_ins(site: FakeSite) -> None:
    """Third parties: without annotations, under another name, under two names, clashing, broken."""
    source = (
        "from losses_core import BaseLoss\n\nclass Plain(BaseLoss):\n"
        "    def __init__(self, width=3, *, kind=None, **options):\n        super().__init__(**options)\n"
        "        self.width, self.kind = width, kind\n"
        "    def _forward(self, pred, target):\n        return pred - target\n"
    )
    target = "fake_acme.part:Plain"
    site.install("acme", {"PlainLoss": target, "Alias": target}, modules={"fake_acme.part": source}, group=GROUP)
    site.install("broken", {"BrokenThing": "fake_gone:BrokenThing"}, group=GROUP)
    install(site, "one", "ClashLoss")
    install(site, "two", "ClashLoss")
    LOSSES.refresh()
    check = validator()
    for name in ("PlainLoss", "Alias", "acme:PlainLoss", "acme:Alias", "one:ClashLoss", "two:ClashLoss"):
        assert not find_faults({"type": name})
        check.validate({"type": name})
        check.validate(name)
    check.validate({"type": "acme:Alias", "width": "anything", "kind": {"a": 1}, "weight": 2})
    assert not check.is_valid({"type": "Alias", "widht": 3})
    for name in ("ClashLoss", "BrokenThing", "broken:BrokenThing", "Plain"):
        assert find_faults({"type": name})
        assert not check.is_valid({"type": name})
