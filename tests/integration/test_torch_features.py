"""torch itself: a whole training step compiled, gradients per sample, sharded models."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from losses_core import build_loss
from losses_testkit.jobs import pixel_classifier
from losses_testkit.ranks import pool


def images(number=16):
    """Images (N,1,8,8), and labels of their pixels by brightness."""
    x = torch.rand(number, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return x, (x > 0.5).squeeze(1).long() + (x > 0.8).squeeze(1).long()


SEGMENTATION = {"ce": {"type": "CrossEntropyLoss"}, "dice": {"type": "DiceLoss", "loss_weight": 0.5}}


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("weighting", [None, "UncertaintyWeighting"])
def test_a_training_step_is_one_graph(weighting):
    x, y = images()

    def trained(backend):
        criterion = build_loss({"type": "CombinedLoss", "losses": SEGMENTATION, "weighting": weighting})
        model = pixel_classifier()
        optimizer = torch.optim.SGD([*model.parameters(), *criterion.parameters()], 0.1)

        def objective(x, y):
            return criterion.terms(model(x), y).total

        if backend:
            objective = torch.compile(objective, fullgraph=True, backend=backend)
        for _ in range(3):
            optimizer.zero_grad()
            objective(x, y).backward()
            optimizer.step()
        return list(model.parameters())

    for ours, expected in zip(trained("aot_eager"), trained(None), strict=True):
        torch.testing.assert_close(ours, expected)


PER_SAMPLE = {
    "CrossEntropyLoss": (lambda g: torch.randn(4, 5, generator=g), lambda g: torch.randint(5, (4,), generator=g)),
    "FocalLoss": (lambda g: torch.randn(4, 5, generator=g), lambda g: torch.randint(5, (4,), generator=g)),
    "LabelSmoothLoss": (lambda g: torch.randn(4, 5, generator=g), lambda g: torch.randint(5, (4,), generator=g)),
    "SmoothL1Loss": (lambda g: torch.randn(4, 4, generator=g), lambda g: torch.randn(4, 4, generator=g)),
    "CIoULoss": (
        lambda g: torch.rand(4, 4, generator=g).cumsum(1),
        lambda g: torch.rand(4, 4, generator=g).cumsum(1),
    ),
    "DiceLoss": (
        lambda g: torch.randn(4, 3, 5, 5, generator=g),
        lambda g: torch.randint(3, (4, 5, 5), generator=g),
    ),
    "KnowledgeDistillationLoss": (lambda g: torch.randn(4, 5, generator=g), lambda g: torch.randn(4, 5, generator=g)),
    "FeatureMSELoss": (lambda g: torch.randn(4, 3, 5, 5, generator=g), lambda g: torch.randn(4, 3, 5, 5, generator=g)),
}


@pytest.mark.parametrize("name", PER_SAMPLE)
def test_gradients_per_sample_by_vmap(name):
    generator = torch.Generator().manual_seed(0)
    pred, target = (make(generator) for make in PER_SAMPLE[name])
    loss = build_loss(name)

    def one(p, t):
        return loss(p.unsqueeze(0), t.unsqueeze(0))

    found = torch.func.vmap(torch.func.grad(one))(pred, target)
    for i in range(4):
        torch.testing.assert_close(found[i], torch.func.grad(one)(pred[i], target[i]))


def test_fsdp2_averages_to_the_gradient_of_the_whole_batch():
    x, y = images(6)
    y[:2] = 255
    whole = pixel_classifier()
    build_loss({"type": "CrossEntropyLoss", "ignore_index": 255})(whole(x), y).backward()
    config = {"type": "CrossEntropyLoss", "ignore_index": 255, "sync_dist": True}
    parts = [{"config": config, "x": x[part], "y": y[part]} for part in (slice(0, 4), slice(4, 6))]
    for gradients in pool().run("losses_testkit.jobs:run_sharded", parts):
        for ours, parameter in zip(gradients, whole.parameters(), strict=True):
            torch.testing.assert_close(ours, parameter.grad)


def test_a_loss_in_a_graph_that_is_exported():
    criterion = build_loss(SEGMENTATION)

    class Objective(nn.Module):
        def __init__(self):
            super().__init__()
            self.model, self.criterion = pixel_classifier(), criterion

        def forward(self, x, y):
            return self.criterion(self.model(x), y)

    x, y = images(4)
    program = torch.export.export(Objective(), (x, y), strict=False)
    torch.testing.assert_close(program.module()(x, y), Objective()(x, y))
