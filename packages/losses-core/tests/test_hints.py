"""What is proposed for a wrong name: names of other libraries, and names that are spelled much alike."""

from typing import Any

import pytest

from losses_core import LOSSES, BaseLoss, Registry, UnknownLossError
from losses_core._catalogue import CATALOGUE
from losses_core._foreign import ADVICE, LOSSES_ELSEWHERE, NOTES, loss_hint, parameter_hint
from losses_core._suggest import closest

from .conftest import GROUP, only_fault


@pytest.fixture
def known() -> list[str]:
    return list(CATALOGUE)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("MSELoss", "Did you mean 'FeatureMSELoss'?"),
        ("torch.nn.MSELoss", "Did you mean 'FeatureMSELoss'?"),
        ("HuberLoss", "Did you mean 'SmoothL1Loss'? Huber's loss is delta times SmoothL1Loss(beta=delta)."),
        ("torch.nn.CrossEntropyLoss", "Did you mean 'CrossEntropyLoss'?"),
        ("nn.BCEWithLogitsLoss", "Did you mean 'BinaryCrossEntropyLoss'?"),
        ("BCEWithLogitsLoss", "Did you mean 'BinaryCrossEntropyLoss'?"),
        ("BCELoss", "Did you mean 'BinaryCrossEntropyLoss'? For probabilities give it with_logits=False."),
        ("BCE", "Did you mean 'BinaryCrossEntropyLoss'? For probabilities give it with_logits=False."),
        ("Tversky", "Did you mean 'TverskyLoss'?"),
        ("monai.losses.DiceCELoss", "Did you mean 'DiceCELoss'?"),
        ("RKDLoss", "Did you mean 'RKDDistanceLoss' or 'RKDAngleLoss'?"),
        ("torch.nn.functional.cross_entropy", "Did you mean 'CrossEntropyLoss'?"),
        ("torchvision.ops.generalized_box_iou_loss", "Did you mean 'GIoULoss'?"),
        ("FocalLos", "Did you mean 'FocalLoss'?"),
        ("Dice", "Did you mean 'DiceLoss'?"),
        ("dice_loss", "Did you mean 'DiceLoss'?"),
        ("LovaszSoftmaxLoss", "Did you mean 'LovaszLoss'?"),
        ("CTCLoss", ""),
        ("TripletMarginLoss", ""),
        ("GaussianNLLLoss", ""),
        ("WingLoss", ""),
        ("SSIMLoss", ""),
        ("banana", ""),
        ("", ""),
        (".", ""),
    ],
)
def test_names_of_losses(name: str, hint: str, known: list[str]) -> None:
    found = loss_hint(name, known)
    assert found.strip().startswith(hint)
    assert bool(found) == bool(hint)


@pytest.mark.parametrize(
    ("name", "other"),
    [("MSELoss", "MGDLoss"), ("HuberLoss", "HDLoss"), ("PairwiseLoss", "CRDLoss"), ("L2Loss", "L1Loss")],
)
def test_an_ending_makes_no_likeness(name: str, other: str) -> None:
    assert closest(name, [other]) is None


def test_a_hint_names_what_there_is() -> None:
    assert loss_hint("HuberLoss", ["L1Loss"]) == ""
    assert loss_hint("RKDLoss", ["RKDAngleLoss"]) == ""


def test_the_table_names_losses_of_the_catalogue() -> None:
    later = {"JSDCrossEntropyLoss"}  # a hint of it shows once there is such a loss
    for name, ours in LOSSES_ELSEWHERE.items():
        words = set(ours.replace(" and ", " ").replace(" or ", " ").split())
        assert words <= set(CATALOGUE) | later, name
    assert set(NOTES) <= set(LOSSES_ELSEWHERE)
    assert {loss for loss, _ in ADVICE} <= set(CATALOGUE)


def test_the_registry_gives_them() -> None:
    registry = Registry("tests", group=GROUP, catalogue=CATALOGUE)
    with pytest.raises(UnknownLossError, match=r"^'nn\.MSELoss' is not .* Did you mean 'FeatureMSELoss'\?"):
        registry["nn.MSELoss"]


@pytest.mark.parametrize(
    ("loss", "name", "known", "hint"),
    [
        ("CrossEntropyLoss", "use_sigmoid", ["class_weight"], "For a sigmoid per class use 'BinaryCrossEntropyLoss'."),
        (
            "CrossEntropyLoss",
            "weight",
            ["class_weight", "loss_weight"],
            "Did you mean 'class_weight' or 'loss_weight'?",
        ),
        ("L1Loss", "weight", ["loss_weight"], "Did you mean 'loss_weight'?"),
        ("KDLoss", "tau", ["temperature"], "Did you mean 'temperature'?"),
        ("KDLoss", "tau", ["other"], ""),
        ("DiceLoss", "smoth", ["smooth"], "Did you mean 'smooth'?"),
        ("DiceLoss", 3, ["smooth"], ""),
    ],
)
def test_names_of_parameters(loss: str, name: Any, known: list[str], hint: str) -> None:
    assert parameter_hint(loss, name, known).strip() == hint


@pytest.mark.usefixtures("losses")
def test_a_constructor_and_a_config_say_the_same() -> None:
    class CrossEntropyLoss(BaseLoss):
        def _forward(self, pred: Any, target: Any) -> Any:
            return pred - target

    LOSSES.register(CrossEntropyLoss)
    text = "CrossEntropyLoss has no parameter 'use_sigmoid'. For a sigmoid per class use 'BinaryCrossEntropyLoss'."
    with pytest.raises(TypeError) as caught:
        CrossEntropyLoss(use_sigmoid=True)
    assert str(caught.value) == text
    assert only_fault({"type": "CrossEntropyLoss", "use_sigmoid": True}) == f"loss.use_sigmoid: {text}"
    assert only_fault({"name": "CrossEntropyLoss", "gamma": 2}).endswith(
        "'type' is missing: write type: CrossEntropyLoss in place of name: CrossEntropyLoss."
    )
