"""Learnable parts of losses reach the optimizer."""

import pytest
import torch
from torch import nn

from losses_core import CombinedLoss, ConfigError, check_optimizer, trainable_parameters

from .small_losses import GapLoss, SizedLoss


def test_each_parameter_once_the_models_first() -> None:
    model, loss = nn.Linear(2, 2), SizedLoss(3)
    shared = CombinedLoss({"a": loss, "b": GapLoss()})
    found = trainable_parameters(model, loss, shared)
    assert list(map(id, found)) == list(map(id, [model.weight, model.bias, loss.adapter.weight]))


def test_frozen_parameters_are_left_out() -> None:
    model, loss = nn.Linear(2, 2), SizedLoss(3)
    model.weight.requires_grad_(False)
    loss.adapter.requires_grad_(False)
    assert trainable_parameters(model, loss) == [model.bias]
    check_optimizer(torch.optim.SGD([model.bias], lr=0.1), loss)


def test_missing_parameters_are_named() -> None:
    model, loss, head = nn.Linear(2, 2), SizedLoss(3, loss_name="feature"), nn.Linear(1, 1, bias=False)
    check_optimizer(torch.optim.SGD(trainable_parameters(model, loss, head), lr=0.1), loss, head)
    forgotten = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(
        ConfigError, match=r"lacks 1 learnable parameter of the losses: feature\.adapter\.weight\. Build"
    ):
        check_optimizer(forgotten, loss)
    with pytest.raises(
        ConfigError, match=r"lacks 2 learnable parameters .*: feature\.adapter\.weight, Linear\.weight\."
    ):
        check_optimizer(forgotten, loss, head)


def test_all_parameter_groups_count() -> None:
    model, loss = nn.Linear(2, 2), SizedLoss(3)
    groups = [{"params": model.parameters()}, {"params": loss.parameters(), "lr": 0.01}]
    check_optimizer(torch.optim.SGD(groups, lr=0.1), loss)
