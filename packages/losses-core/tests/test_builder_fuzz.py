"""Configs made at random: they build, or a LossesError says what is wrong; nothing else comes out."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from losses_core import ConfigError, LossesError, build_loss
from losses_core.builder import find_faults

from .small_losses import SMALL_LOSSES, GapLoss

pytestmark = pytest.mark.usefixtures("losses")

NAMES = [cls.__name__ for cls in SMALL_LOSSES] + [
    "CombinedLoss",
    "ScheduledWeighting",
    "linear",
    "DiceLoss",
    "GapLos",
    "a:GapLoss",
    "os.system",
    "",
]
KEYS = [
    "type",
    "loss_weight",
    "weight",
    "reduction",
    "eps",
    "alpha",
    "steps",
    "channels",
    "inputs",
    "avg_factor",
    "mode",
]
KEYS += ["pred", "target", "a", "train", "a.b", "loss_name", "kind", "class_weight", "sync_dist"]
KEYS += ["losses", "weighting", "schedules", "name", "from", "method", "beta", "normalize"]

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([*NAMES, "mean", "none", "1e-6", "x.y", b"x", object(), GapLoss, int])
    | st.text(max_size=5)
    | st.sampled_from([10**400, -(2**63), 1e5, "x" * 10_000, "\x1b[31m"])
    | st.builds(GapLoss)
)
keys = st.sampled_from(KEYS) | st.text(max_size=3) | st.integers() | st.none() | st.tuples(st.integers())


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    free = st.dictionaries(keys, inner, max_size=4)
    named = st.builds(lambda name, rest: {"type": name} | rest, st.sampled_from(NAMES), free)
    return st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | free | named


configs = st.recursive(scalars, containers, max_leaves=12)


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(config=configs)
def test_fuzzed_config(config: Any) -> None:
    faults = find_faults(config)
    assert all(type(fault.path) is str and fault.path.startswith("loss") for fault in faults)
    try:
        loss = build_loss(config)
    except LossesError as error:
        assert isinstance(error, ConfigError)
        assert str(error) == str(faults[0])
    else:
        assert faults == []
        assert callable(loss)
