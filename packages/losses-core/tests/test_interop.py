"""The bridges to training frameworks, by what these hand over; with the frameworks themselves in `nox -s interop`."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from losses_core import LOSSES, BaseLoss, CombinedLoss, ConfigError, InputError, RegistryError
from losses_core.interop import compute_loss_func, register_mmengine
from losses_core.weighting import UncertaintyWeighting

from .small_losses import GapLoss, SquareLoss, batch


class LabelLoss(BaseLoss):
    """Squared, with labels that are ignored."""

    def __init__(self, ignore_index: int = -100) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def _forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return (pred - target) ** 2


def test_the_number_of_items_is_the_denominator() -> None:
    pred, target = batch()
    function = compute_loss_func(SquareLoss(), accumulation_steps=4)
    total = ((pred - target) ** 2).sum()
    for outputs in ({"logits": pred}, SimpleNamespace(logits=pred), pred):
        torch.testing.assert_close(function(outputs, target, num_items_in_batch=torch.tensor(50)), total / 50)
    # where the Trainer did not count, the mean of the means of the small batches
    torch.testing.assert_close(function({"logits": pred}, target), SquareLoss()(pred, target) / 4)


def test_of_a_combination_the_terms_named_are_means_over_items() -> None:
    pred, target = batch()
    inner = CombinedLoss({"square": SquareLoss(), "again": SquareLoss(loss_weight=2.0)})
    loss = CombinedLoss({"gap": GapLoss(loss_weight=0.5), "inner": inner})
    sums = {"gap": 0.5 * (pred - target).abs().sum(), "inner": 3 * ((pred - target) ** 2).sum()}
    every = compute_loss_func(loss)(pred, target, num_items_in_batch=50)
    torch.testing.assert_close(every, (sums["gap"] + sums["inner"]) / 50)
    some = compute_loss_func(loss, items=["inner"], accumulation_steps=3)(pred, target, num_items_in_batch=50)
    torch.testing.assert_close(some, 0.5 * GapLoss()(pred, target) / 3 + sums["inner"] / 50)
    none = compute_loss_func(loss, items=[], accumulation_steps=3)(pred, target, num_items_in_batch=50)
    torch.testing.assert_close(none, loss(pred, target) / 3)
    torch.testing.assert_close(compute_loss_func(loss, accumulation_steps=3)(pred, target), loss(pred, target) / 3)


def test_a_learned_weighting_accumulates_to_the_large_batch() -> None:
    pred, target = batch(6, 3)
    loss = CombinedLoss({"gap": GapLoss(), "square": SquareLoss()}, weighting=UncertaintyWeighting("log1p"))
    learned = list(loss.parameters())
    torch.nn.init.normal_(learned[0])
    whole = loss(pred, target)
    function = compute_loss_func(loss, accumulation_steps=2)
    parts = [function(pred[rows], target[rows], num_items_in_batch=18) for rows in (slice(0, 1), slice(1, 6))]
    torch.testing.assert_close(sum(parts), whole)
    wanted = torch.autograd.grad(whole, [pred, *learned], retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(torch.stack(parts).sum(), [pred, *learned]), wanted)


def test_classes_last_and_labels_one_further() -> None:
    logits, labels = torch.randn(2, 6, 3), torch.randn(2, 6)
    seen = {}

    class Seen(BaseLoss):
        def _forward(self, pred: Tensor, target: Tensor) -> Tensor:
            seen.update(pred=pred, target=target)
            return pred.sum(1)

    compute_loss_func(Seen(), class_dim=-1, shift=True)({"logits": logits}, labels)
    assert torch.equal(seen["pred"], logits[:, :5].movedim(2, 1))
    assert torch.equal(seen["target"], labels[:, 1:])


def test_what_the_trainer_would_count_otherwise_is_refused() -> None:
    compute_loss_func(LabelLoss())
    with pytest.raises(
        ConfigError, match=r"label: ignores the label 255, but the Trainer counts every label that is not"
    ):
        compute_loss_func(LabelLoss(255))
    both = CombinedLoss({"a": LabelLoss(), "b": LabelLoss(255)})
    with pytest.raises(ConfigError, match=r"b: ignores the label 255.* name the terms that are means over labels"):
        compute_loss_func(both)
    compute_loss_func(both, items=["a"])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"items": ["gapp"]}, r"items: there is no term 'gapp'. Did you mean 'gap'\?"),
        ({"accumulation_steps": 0}, "accumulation_steps: expected an integer >= 1; got 0"),
    ],
)
def test_faults_of_the_arguments(arguments: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        compute_loss_func(CombinedLoss({"gap": GapLoss()}), **arguments)


def test_items_of_a_single_loss_and_outputs_without_logits() -> None:
    with pytest.raises(ConfigError, match="items: names terms of a combination"):
        compute_loss_func(GapLoss(), items=["gap"])
    function, (pred, target) = compute_loss_func(GapLoss(), "logit"), batch()
    with pytest.raises(InputError, match=r"no 'logit'. Did you mean 'logits'\? It has: logits"):
        function({"logits": pred}, target)
    with pytest.raises(InputError, match="a SimpleNamespace, has no 'logit'"):
        function(SimpleNamespace(logits=pred), target)


class FakeRegistry:
    """As much of mmengine's registry as is used."""

    name = "models"

    def __init__(self) -> None:
        self.module_dict: dict[str, Any] = {}

    def register_module(self, name: str, module: Any, force: bool) -> None:
        assert force or name not in self.module_dict
        self.module_dict[name] = module


@pytest.mark.usefixtures("losses")
def test_every_loss_is_registered_or_none() -> None:
    registry = FakeRegistry()
    assert register_mmengine(registry) == list(LOSSES)
    assert registry.module_dict["GapLoss"] is GapLoss
    register_mmengine(registry)  # the same again is no clash

    taken = FakeRegistry()
    taken.module_dict["GapLoss"] = object
    with pytest.raises(RegistryError, match=r"'models' has GapLoss already\. Give a prefix"):
        register_mmengine(taken)
    assert taken.module_dict == {"GapLoss": object}
    assert register_mmengine(taken, ["GapLoss"], prefix="our") == ["ourGapLoss"]
    with pytest.raises(ConfigError, match=r"prefix: mmengine reads 'our\.' as a scope"):
        register_mmengine(taken, prefix="our.")
    register_mmengine(taken, ["GapLoss"], force=True)
    assert taken.module_dict["GapLoss"] is GapLoss
