"""A combination over several processes: the loss of the whole batch, with one collective for all denominators."""

from __future__ import annotations

import pytest
import torch

from losses_core import build_loss
from losses_testkit.case import Inputs
from losses_testkit.distribution import close, shards
from losses_testkit.ranks import pool
from losses_testkit.runs import prepared, run

MEMBERS = {
    "labels": {"type": "CrossEntropyLoss", "ignore_index": 255},
    "focal": {"type": "FocalLoss", "ignore_index": 255, "loss_weight": 0.5},
    "overlap": {"type": "DiceLoss", "per_image": False},
}


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (5, 4, 6), generator=generator)
    labels[:3, :3] = 255  # the first rank counts a fourth of its pixels
    return Inputs(torch.randn(5, 3, 4, 6, generator=generator, dtype=torch.float64), labels)


def _over_ranks(inputs, sizes, compiled=False):
    config = {name: {**member, "sync_dist": True} for name, member in MEMBERS.items()}
    jobs = [
        {"config": config, "state": {}, "inputs": shard, "keywords": {}, "compiled": compiled}
        for shard in shards(inputs, sizes)
    ]
    return pool().run("losses_testkit.jobs:run_loss", jobs)


def _check(results, inputs):
    value, (gradient,) = run(build_loss(MEMBERS), prepared(inputs))
    for result in results:
        close(result["value"], value)
    close(torch.cat([result["pred"][0] for result in results]) / len(results), gradient)


@pytest.mark.parametrize("sizes", [(3, 2), (2, 0, 3)], ids=str)
def test_equals_one_process_with_one_collective_for_all_denominators(inputs, sizes):
    results = _over_ranks(inputs, sizes)
    _check(results, inputs)
    for result in results:
        # four sums of each class, after which the overlap is that of all ranks; two numerators and two denominators
        assert result["forward"] == [("all_reduce", 4 * 3 * 8), ("all_reduce", 2 * 2 * 8)]
        assert result["backward"] == [("all_reduce", 4 * 3 * 8)]


def test_compiles_to_one_graph(inputs):
    _check(_over_ranks(inputs, (3, 2), compiled=True), inputs)
