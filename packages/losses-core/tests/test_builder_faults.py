"""What is said about each mistake in a config."""

from typing import Any

import pytest
from torch import nn

from losses_core import LOSSES, CombinedLoss, ConfigError, build_loss
from losses_core.builder import find_faults
from losses_core.errors import AmbiguousLossError, LossLoadError, LossNotInstalledError, UnknownLossError
from losses_testkit.fake_distributions import FakeSite

from .conftest import GROUP, install, only_fault
from .small_losses import GapLoss, inputs

pytestmark = pytest.mark.usefixtures("losses")


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (["GapLoss", {"type": "GapLoss", "ep": 1}], "loss[1].ep: GapLoss has no parameter 'ep'. Did you mean 'eps'?"),
        ({"a": {"b": [{"type": "SquareLoss", "kiwi": 1}]}}, "loss.a.b[0].kiwi: SquareLoss has no parameter 'kiwi'"),
        ({"type": "SquareLoss", 3: 1}, "loss[3]: SquareLoss has no parameter 3. It has: loss_weight, "),
        ({"a": {"type": "SizedLoss"}}, "loss.a: SizedLoss needs the parameter 'channels', which is not given."),
        ("SizedLoss", "loss: SizedLoss needs the parameter 'channels', which is not given."),
        ({"type": "GapLoss", "reduction": "men"}, "loss: GapLoss: reduction: expected one of 'none', 'mean', "),
        ({"type": "GapLoss", "loss_weight": [1]}, "loss: GapLoss: loss_weight: expected a number; got [1]."),
        ({"type": "BrokenLoss"}, "loss: BrokenLoss: RuntimeError"),
        ({"type": "BrokenLoss", "kind": "KeyError"}, "loss: BrokenLoss: KeyError"),
        ({"type": "GapLos"}, "loss.type: 'GapLos' is not a registered loss. Did you mean 'GapLoss'?"),
        (["GapLoss", "GapLos"], "loss[1]: 'GapLos' is not a registered loss. Did you mean 'GapLoss'?"),
        ({"type": "torch.nn.L1Loss"}, "loss.type: 'torch.nn.L1Loss' is not a registered loss."),
        ({"type": GapLoss}, "loss.type: expected the name of a registered loss, got <class "),
        ({"type": {"type": "GapLoss"}}, "loss.type: expected the name of a registered loss, got {'type': 'GapLoss'}."),
        ({"type": None}, "loss.type: expected the name of a registered loss, got None."),
        (None, "loss: expected the name of a loss, a mapping with 'type', a list of these, or a mapping of labels"),
        ([], "loss: expected the name of a loss"),
        ({}, "loss: expected the name of a loss"),
        (b"GapLoss", "loss: expected the name of a loss"),
        ([3], "loss[0]: expected the name of a loss"),
        ({"a": {"lable": 3}}, "loss.a.lable: expected the name of a loss"),
        ({"a": []}, "loss.a: expected the name of a loss"),
        (["TrainLoss"], "loss[0]: 'train' cannot be a label: it is an attribute of every combined loss."),
        ({"a": {"type": "GapLoss", "reduction": "none"}}, "loss.a: gap: reduction='none' gives no scalar to sum."),
    ],
)  # fmt: skip
def test_faults(config: Any, text: str) -> None:
    assert only_fault(config).startswith(text)


@pytest.mark.parametrize(
    "label",
    ["", "a.b", "train", "forward", "terms", "inputs", "training", "_modules", "_paths", "total", "loss.", 3, None],
)
def test_labels_that_a_module_cannot_hold(label: Any) -> None:
    config = {"a": {"type": "GapLoss"}, label: {"type": "GapLoss"}}
    path = f"loss.{label}" if isinstance(label, str) and label.isidentifier() else f"loss[{label!r}]"
    text = only_fault(config)
    assert text.startswith(f"{path}: ")
    assert "label" in text
    with pytest.raises(ConfigError, match="label"):
        CombinedLoss({label: GapLoss()})


def test_hints() -> None:
    assert only_fault({"a": "GapLoss", "b": 1}).endswith(
        "got 1. A mapping without 'type' names its terms. Is 'type' missing?"
    )
    for key in ("typ", "name", "Type"):
        assert only_fault({key: "GapLoss", "eps": 1}).endswith(
            "A mapping without 'type' names its terms. "
            f"'type' is missing: write type: GapLoss in place of {key}: GapLoss."
        )
    assert "A config names registered losses only, never an import path." in only_fault("torch.nn.L1Loss")
    assert "derives from BaseLoss" in only_fault([nn.L1Loss()])
    with pytest.raises(ConfigError) as caught:
        build_loss({"type": "GapLoss", "ep": 1})
    assert caught.value.path == "loss.ep"
    assert caught.value.hint == "Did you mean 'eps'?"


def test_cause_of_a_constructors_error() -> None:
    with pytest.raises(ConfigError) as caught:
        build_loss([{"type": "GapLoss", "eps": -1.0}])
    assert caught.value.path == "loss[0]"
    assert isinstance(caught.value.__cause__, ValueError)
    assert str(caught.value) == "loss[0]: GapLoss: eps must not be negative, got -1.0"


def test_errors_of_the_registry_stay_what_they_are(site: FakeSite) -> None:
    install(site, "acme-a", "TwiceLoss")
    install(site, "acme-b", "TwiceLoss")
    site.install("acme-c", {"ImportsLoss": "fake_gone:ImportsLoss"}, group=GROUP)
    LOSSES.refresh()
    wanted = {
        "TwiceLoss": AmbiguousLossError,
        "ImportsLoss": LossLoadError,
        "BananaLoss": UnknownLossError,
        "DiceLoss": LossNotInstalledError,
    }
    for name, error in wanted.items():
        with pytest.raises(error) as caught:
            build_loss([{"type": name}])
        assert isinstance(caught.value, ConfigError)
        assert caught.value.path == "loss[0].type"
        with pytest.raises(error) as original:
            LOSSES[name]
        assert str(caught.value) == f"loss[0].type: {original.value}"


def test_all_faults_at_once() -> None:
    config = {
        "a": {"type": "GapLoss", "ep": 1, "steps": "x", "eps": -1.0},
        "b": [{"type": "GapLos"}, {"type": "SizedLoss", "chanels": 3}, {"type": "BrokenLoss"}, "TrainLoss"],
        "train": {"type": "SquareLoss", "reduction": "none"},
        "c": {"type": "SizedLoss", "channels": "x"},
    }
    paths = [fault.path for fault in find_faults(config, "criterion")]
    assert sorted(paths) == sorted(
        f"criterion{path}"
        for path in (
            ".a.ep", ".a.steps", ".a", ".b[0].type", ".b[1].chanels", ".b[1]", ".b[2]", ".b[3]",
            ".train", ".train", ".c.channels",
        )
    )  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        build_loss(config)
    assert len(caught.value.__notes__) == len(paths) - 1
    assert any(note.startswith("and loss.b[2]: BrokenLoss") for note in caught.value.__notes__)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"type": "SquareLoss", "inputs": 3}, "loss.inputs: expected a mapping of arguments to paths, got 3."),
        (inputs(pred="a"), "loss.inputs: expected an entry for 'target', got: pred."),
        (inputs(), "loss.inputs: expected an entry for 'pred', got: none."),
        (inputs(pred="a", target="b", mas="c"), "loss.inputs.mas: SquareLoss has no argument 'mas'. Did you mean "),
        (inputs(pred="a", target=3), "loss.inputs.target: expected a path such as 'student.logits', got 3."),
        (inputs(pred="a", target="b..c"), "loss.inputs.target: expected a path such as 'student.logits', got 'b..c'."),
    ],
)  # fmt: skip
def test_faulty_inputs(config: Any, text: str) -> None:
    assert only_fault(config).startswith(text)
