"""Weights of a combination that follow a schedule or are learned."""

import math
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from torch import Tensor

from losses_core import CombinedLoss, ConfigError, InputError, LayeredLoss, LossTerms, build_loss
from losses_core.builder import find_faults
from losses_core.schedules import SCHEDULES, build_schedule
from losses_core.schema import config_schema
from losses_core.weighting import ScheduledWeighting, UncertaintyWeighting, Weighting, build_weighting

from .small_losses import GapLoss, SquareLoss, batch

pytestmark = pytest.mark.usefixtures("losses")


def expected_factor(config: dict[str, Any], t: int) -> float:
    """The formulas of the documentation, in Python."""
    kind = config["type"]
    if kind == "constant":
        factor = config.get("value", 1.0)
    elif kind == "step":
        factor = config.get("start", 1.0) * config.get("factor", 0.1) ** (t // config["every"])
    else:
        a, b, part = config.get("start", 0.0), config.get("end", 1.0), min(t / config["steps"], 1)
        factor = a + (b - a) * part if kind == "linear" else b + (a - b) * (1 + math.cos(math.pi * part)) / 2
    warmup = config.get("warmup", 0)
    return float(factor * (min((t + 1) / warmup, 1) if warmup else 1))


SCHEDULE_CONFIGS: list[dict[str, Any]] = [
    {"type": "constant"},
    {"type": "constant", "value": 0.3, "warmup": 4},
    {"type": "linear", "steps": 5},
    {"type": "linear", "steps": 3, "start": 2.0, "end": 0.5, "warmup": 2},
    {"type": "cosine", "steps": 5},
    {"type": "cosine", "steps": 4, "start": 1.0, "end": 0.25},
    {"type": "step", "every": 2},
    {"type": "step", "every": 3, "start": 2.0, "factor": 0.5, "warmup": 3},
]


def scheduled(schedule: Any) -> CombinedLoss:
    weighting = ScheduledWeighting({"square": schedule})
    return CombinedLoss({"gap": GapLoss(), "square": SquareLoss(loss_weight=0.5)}, weighting=weighting)


@pytest.mark.parametrize("config", SCHEDULE_CONFIGS, ids=str)
def test_a_schedule_follows_its_formula(config: dict[str, Any]) -> None:
    criterion, (pred, target) = scheduled(config), batch()
    assert isinstance(criterion.weighting, ScheduledWeighting)
    for t in range(8):
        terms = criterion.terms(pred, target)
        wanted = 0.5 * expected_factor(config, t)
        np.testing.assert_allclose(float(terms.weights["square"]), wanted, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(terms["square"], wanted * terms.raw["square"], rtol=1e-5, atol=1e-7)
        assert terms.weights["gap"] == 1.0
        torch.testing.assert_close(terms.total, terms["gap"] + terms["square"])
        criterion.weighting.step()


def test_the_count_survives_a_checkpoint_and_the_schedule_is_that_of_the_config() -> None:
    criterion = scheduled({"type": "linear", "steps": 10})
    assert isinstance(criterion.weighting, ScheduledWeighting)
    for _ in range(4):
        criterion.weighting.step()
    other = scheduled({"type": "linear", "steps": 5})
    other.load_state_dict(criterion.state_dict())
    pred, target = batch()
    assert float(other.terms(pred, target).weights["square"]) == pytest.approx(0.5 * 4 / 5)
    # a module cast to half precision neither miscounts nor rounds the factor
    assert float(other.half().terms(pred, target).weights["square"]) == pytest.approx(0.5 * 4 / 5)


def test_a_schedule_is_compiled_once() -> None:
    criterion, (pred, target) = scheduled({"type": "cosine", "steps": 5}), batch()
    assert isinstance(criterion.weighting, ScheduledWeighting)
    graphs = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(criterion, fullgraph=True, backend=backend)
    for _ in range(4):
        torch.testing.assert_close(compiled(pred, target), criterion(pred, target))
        criterion.weighting.step()
    assert len(graphs) == 1


@pytest.mark.parametrize(("penalty", "of"), [("log", lambda s: s / 2), ("log1p", lambda s: math.log1p(math.exp(s)))])
def test_uncertainty_follows_its_formula(penalty: Any, of: Any) -> None:
    weighting = UncertaintyWeighting(penalty)
    criterion = CombinedLoss({"gap": GapLoss(loss_weight=0.5), "square": SquareLoss()}, weighting=weighting)
    logs = [0.7, -1.2]
    with torch.no_grad():
        weighting.log_variance.copy_(torch.tensor(logs))
    pred, target = batch()
    terms = criterion.terms(pred, target)
    raw = [value.item() for value in terms.raw.values()]
    wanted = [w * math.exp(-s) * value + of(s) for w, s, value in zip([0.5, 1.0], logs, raw, strict=True)]
    np.testing.assert_allclose([term.item() for term in terms.values()], wanted, rtol=1e-6)
    np.testing.assert_allclose(terms.total.item(), sum(wanted), rtol=1e-6)
    terms.total.backward()
    h = 1e-6
    slope = [
        (w * math.exp(-s - h) * v + of(s + h) - w * math.exp(-s + h) * v - of(s - h)) / (2 * h)
        for w, s, v in zip([0.5, 1.0], logs, raw, strict=True)
    ]
    assert weighting.log_variance.grad is not None
    np.testing.assert_allclose(weighting.log_variance.grad.numpy(), slope, rtol=1e-4)


def test_uncertainty_finds_the_variance() -> None:
    """The best s of w e^-s L + s/2 is log(2 w L)."""
    weighting = UncertaintyWeighting()
    weighting.bind(["a"])
    optimizer = torch.optim.Adam(weighting.parameters(), 0.05)
    for _ in range(400):
        optimizer.zero_grad()
        weighting({"a": torch.tensor(3.0)}, {"a": 0.5}).total.backward()
        optimizer.step()
    assert weighting.log_variance.item() == pytest.approx(math.log(3.0), abs=1e-3)


def test_labels_of_nested_losses_are_joined() -> None:
    inner = CombinedLoss({"gap": GapLoss(), "square": SquareLoss()})
    criterion = CombinedLoss(
        {"head": inner, "aux": GapLoss()},
        weighting=ScheduledWeighting({"head.square": {"type": "constant", "value": 0.0}}),
    )
    assert criterion.term_labels() == ["head.gap", "head.square", "aux"]
    terms = criterion.terms(*batch())
    assert terms["head.square"] == 0
    assert list(criterion) == ["head", "aux"]  # a weighting is no member
    assert len(criterion) == 2
    assert "weighting" not in criterion
    with pytest.raises(ConfigError, match="with a weighting cannot be part of another"):
        CombinedLoss([criterion])
    with pytest.raises(ConfigError, match="'weighting' cannot be a label"):
        CombinedLoss({"weighting": GapLoss()})


WEIGHTINGS: list[Any] = [
    "UncertaintyWeighting",
    {"type": "UncertaintyWeighting", "penalty": "log1p"},
    *({"type": "ScheduledWeighting", "schedules": {"b": schedule}} for schedule in SCHEDULE_CONFIGS),
    {"type": "ScheduledWeighting", "schedules": {"a": "constant", "b": {"type": "linear", "steps": 2, "end": "1e-3"}}},
]


def config_of(weighting: Any) -> dict[str, Any]:
    return {"type": "CombinedLoss", "losses": {"a": "GapLoss", "b": {"type": "SquareLoss"}}, "weighting": weighting}


@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=str)
def test_a_config_is_built_accepted_by_the_schema_and_given_back(weighting: Any) -> None:
    loss = build_loss(config_of(weighting))
    jsonschema.validate(config_of(weighting), config_schema())
    jsonschema.validate(loss.to_config(), config_schema())
    again = build_loss(loss.to_config())
    assert again.to_config() == loss.to_config()
    assert torch.equal(loss(*batch()), again(*batch()))
    assert repr(again) == repr(loss)


def test_without_a_weighting_the_written_out_form_is_the_plain_one() -> None:
    plain = build_loss(config_of(None))
    assert isinstance(plain, CombinedLoss)
    assert plain.weighting is None
    assert plain.to_config() == build_loss(config_of(None)["losses"]).to_config()
    single = build_loss({"type": "CombinedLoss", "losses": "GapLoss", "weighting": "UncertaintyWeighting"})
    assert list(single) == ["gap"]


FAULTS: list[tuple[Any, str]] = [
    ("Uncertainty", "loss.weighting.type: expected a weighting, one of .* Did you mean 'UncertaintyWeighting'"),
    (3, "loss.weighting: expected a weighting: a mapping with 'type', one of .*; got 3"),
    ({"type": 3}, "loss.weighting.type: expected a weighting, one of .*; got 3"),
    ({"type": "UncertaintyWeighting", "penalty": "lg"}, "penalty: expected one of 'log', 'log1p'; got 'lg'"),
    ({"type": "UncertaintyWeighting", "penaly": "log"}, "loss.weighting.penaly: .* Did you mean 'penalty'"),
    ({"type": "ScheduledWeighting"}, "loss.weighting: 'ScheduledWeighting' needs the parameter 'schedules'"),
    ({"type": "ScheduledWeighting", "schedules": {}}, "loss.weighting.schedules: expected a mapping label"),
    ({"type": "ScheduledWeighting", "schedules": {"c": "constant"}}, "schedules.c: there is no term 'c'"),
    ({"type": "ScheduledWeighting", "schedules": {"b": "lin"}}, "schedules.b.type: expected a schedule, one of"),
    ({"type": "ScheduledWeighting", "schedules": {"b": {"type": "linear"}}}, "'linear' needs the parameter 'steps'"),
    (
        {"type": "ScheduledWeighting", "schedules": {"b": {"type": "linear", "stps": 2}}},
        "schedules.b.stps: 'linear' has no parameter 'stps'. Did you mean 'steps'",
    ),
    (
        {"type": "ScheduledWeighting", "schedules": {"b": {"type": "linear", "x": 2}}},
        "'linear' has no parameter 'x'. It has: warmup, steps, start, end",
    ),
    (
        {"type": "ScheduledWeighting", "schedules": {"b": {"type": "linear", "steps": 0}}},
        "loss.weighting.schedules.b: Linear: steps: expected a number > 0; got 0",
    ),
    (
        {"type": "ScheduledWeighting", "schedules": {"b": {"type": "constant", "warmup": -1}}},
        "loss.weighting.schedules.b: Constant: warmup: expected a number >= 0; got -1",
    ),
    (
        {"type": "ScheduledWeighting", "schedules": {"b": {"type": "step", "every": 2, "factor": "half"}}},
        "loss.weighting.schedules.b: Step: factor: expected a number >= 0; got 'half'",
    ),
]


@pytest.mark.parametrize(("weighting", "text"), FAULTS, ids=[str(fault) for fault, _ in FAULTS])
def test_a_fault_is_told_with_its_place(weighting: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        build_loss(config_of(weighting))
    assert len(find_faults(config_of(weighting))) == 1
    validator = jsonschema.Draft7Validator(config_schema())
    assert validator.is_valid(config_of(weighting)) == ("no term" in text)  # a schema knows nothing of the labels


def test_the_written_out_form_is_checked_too() -> None:
    with pytest.raises(ConfigError, match=r"^loss: CombinedLoss needs the parameter 'losses'"):
        build_loss({"type": "CombinedLoss"})
    with pytest.raises(
        ConfigError, match=r"^loss.weight: CombinedLoss has no parameter 'weight'. It has: losses, weight"
    ):
        build_loss({"type": "CombinedLoss", "losses": "GapLoss", "weight": 2})
    with pytest.raises(ConfigError, match=r"^loss.losses.a: 'GapLos' is not a registered loss"):
        build_loss({"type": "CombinedLoss", "losses": {"a": "GapLos"}, "weighting": "UncertaintyWeighting"})
    validator = jsonschema.Draft7Validator(config_schema())
    assert not validator.is_valid({"type": "CombinedLoss"})
    assert not validator.is_valid({"type": "CombinedLoss", "losses": "GapLoss", "weight": 2})
    assert not validator.is_valid("CombinedLoss")


def test_schedules_and_weightings_of_ones_own_are_taken_as_they_are() -> None:
    schedule = build_schedule({"type": "step", "every": 2})
    assert build_schedule(schedule) is schedule
    assert {schedule.type} < SCHEDULES.keys()

    class Halves(Weighting):
        def bind(self, labels: Any) -> None:
            self.labels = labels

        def forward(self, raw: Any, weights: Any) -> LossTerms:
            return LossTerms(raw, {label: weight / 2 for label, weight in weights.items()})

        def to_config(self) -> dict[str, Any]:
            return {"type": "Halves"}

    weighting = Halves()
    assert build_weighting(weighting) is weighting
    loss, (pred, target) = build_loss(config_of(weighting)), batch()
    plain: Tensor = build_loss(config_of(None))(pred, target)
    torch.testing.assert_close(loss(pred, target), plain / 2)
    assert weighting.labels == ["a", "b"]


def weight_at(criterion: CombinedLoss) -> float:
    return float(criterion.terms(*batch()).weights["square"])


def in_unit(unit: str, schedule: dict[str, Any]) -> CombinedLoss:
    weighting = {"type": "ScheduledWeighting", "unit": unit, "schedules": {"square": schedule}}
    losses = {"gap": "GapLoss", "square": {"type": "SquareLoss", "loss_weight": 0.5}}
    built = build_loss({"type": "CombinedLoss", "losses": losses, "weighting": weighting})
    assert isinstance(built, CombinedLoss)
    return built


def test_epochs_may_have_parts() -> None:
    criterion = in_unit("epoch", {"type": "linear", "steps": 2.5})
    criterion.step(0.5)
    assert weight_at(criterion) == pytest.approx(0.5 * 0.2)
    criterion.step()
    assert weight_at(criterion) == pytest.approx(0.5 * 0.6)
    other = build_loss(criterion.to_config())
    other.load_state_dict(criterion.state_dict())
    assert weight_at(other) == weight_at(criterion)


def test_half_precision_does_not_round_the_position() -> None:
    criterion = in_unit("epoch", {"type": "linear", "steps": 1000})
    criterion.step(300.25)
    assert weight_at(criterion.to(torch.bfloat16)) == pytest.approx(0.5 * 0.30025, rel=1e-6)


def test_a_fraction_of_the_training() -> None:
    criterion = in_unit("fraction", {"type": "cosine", "steps": 0.5, "warmup": 0.1})
    found = []
    for position in (0.0, 0.05, 0.25, 1.0):
        criterion.step(position)
        found.append(weight_at(criterion))
    assert found == pytest.approx([0, 0.5 * 0.5 * (1 - math.cos(math.pi * 0.1)) / 2, 0.25, 0.5], abs=1e-6)
    with pytest.raises(InputError, match="expected the part of the training that is over"):
        criterion.step()
    with pytest.raises(InputError, match=r"expected a part in \[0, 1\]; got 1.5"):
        criterion.step(1.5)


@pytest.mark.parametrize(
    ("unit", "schedule", "text"),
    [
        ("step", {"type": "linear", "steps": 2.5}, "schedules.square.steps: expected a whole number of steps; got 2.5"),
        ("step", {"type": "constant", "warmup": 0.5}, "schedules.square.warmup: expected a whole number of steps"),
        (
            "fraction",
            {"type": "step", "every": 2},
            r"schedules.square.every: expected a part of the training in \[0, 1\]",
        ),
        ("batch", {"type": "constant"}, "unit: expected one of 'step', 'epoch', 'fraction'; got 'batch'"),
    ],
)
def test_lengths_fit_their_unit(unit: str, schedule: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        in_unit(unit, schedule)


class AnnealedLoss(GapLoss):
    """A loss with a schedule of its own."""

    steps_taken = 0

    def step(self, position: float | None = None) -> None:
        self.steps_taken += 1


def test_step_reaches_a_loss_with_a_schedule_of_its_own() -> None:
    annealed = AnnealedLoss()
    weighting = UncertaintyWeighting()  # which has nothing to do
    criterion = CombinedLoss({"square": SquareLoss(), "aux": CombinedLoss([annealed])}, weighting=weighting)
    criterion.step()
    LayeredLoss(CombinedLoss([annealed])).step()
    assert annealed.steps_taken == 2
