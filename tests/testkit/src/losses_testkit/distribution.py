"""The distributed half of the contract: a loss over several ranks is the loss of the whole batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from losses_core.utils.precision import map_tensors
from losses_testkit.case import Case, Inputs, one_sum
from losses_testkit.jobs import RELEASE, ScaledLoss
from losses_testkit.ranks import pool
from losses_testkit.runs import prepared, run

SPLITS = [(3, 2), (5, 0), (2, 0, 3)]


def shards(inputs: Inputs, sizes: tuple[int, ...]) -> list[Inputs]:
    """The inputs cut along the first axis; tensors without one go to every rank."""
    starts = [sum(sizes[:rank]) for rank in range(len(sizes))]

    def cut(start: int, size: int) -> Any:
        return lambda t: t[start : start + size].clone() if t.ndim and t.shape[0] == sum(sizes) else t

    return [
        Inputs(*(map_tensors(cut(*part), tree) for tree in (inputs.pred, inputs.target, inputs.call)))
        for part in zip(starts, sizes, strict=True)
    ]


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    """Equal within the tolerance, relative to the largest entry."""
    scale = max(1.0, float(expected.abs().max()) if expected.numel() else 1.0)
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance * scale)


class DistributedContract:
    """With ``sync_dist`` value and averaged gradient equal those of one process on the concatenated batch."""

    @pytest.mark.parametrize("sizes", SPLITS, ids=str)
    def test_several_ranks_equal_one_process(self, case: Case, sizes: tuple[int, ...]) -> None:
        if not case.distributed:
            pytest.skip(case.why)
        if case.id and case.sent is one_sum and sizes != SPLITS[-1]:
            pytest.skip("the step over the ranks is that of the loss with its default options")
        loss, inputs = case.build(), case.inputs(sum(sizes))
        state = {name: tensor.clone() for name, tensor in loss.state_dict().items()}
        value, gradients = run(loss, prepared(inputs))
        learned = _learned_gradients(case, inputs)
        config = case.build(sync_dist=True).to_config()
        jobs = [
            {"config": config, "state": state, "inputs": shard, "keywords": {}, "compiled": False}
            for shard in shards(inputs, sizes)
        ]
        results = pool().run("losses_testkit.jobs:run_loss", jobs)
        for result in results:
            close(result["value"], value)
            sent = tuple([number for _, number in result[way]] for way in ("forward", "backward"))
            assert sent == case.sent(inputs, sizes)
        averaged = [torch.stack(parts).mean(0) for parts in zip(*(r["learned"] for r in results), strict=True)]
        for actual, expected in zip(averaged, learned, strict=True):
            close(actual, expected)
        for index, expected in enumerate(gradients):
            # what data parallelism averages over the ranks is the sum of these over the rows each rank holds
            actual = torch.cat([result["pred"][index] for result in results]) / len(sizes)
            close(actual, expected)

    def test_several_ranks_run_compiled_in_one_graph(self, case: Case) -> None:
        if not case.distributed:
            pytest.skip(case.why)
        if case.id and case.sent is one_sum:
            pytest.skip("the step over the ranks is that of the loss with its default options")
        if case.ranks_compile_from > RELEASE:
            pytest.skip("docs/guide/compile.md: the compiler of this torch makes no one graph of it")
        inputs = case.inputs(5)
        loss = case.build()
        state = {name: tensor.clone() for name, tensor in loss.state_dict().items()}
        value, gradients = run(loss, prepared(inputs))
        config = case.build(sync_dist=True).to_config()
        jobs = [
            {"config": config, "state": state, "inputs": shard, "keywords": {}, "compiled": True}
            for shard in shards(inputs, (3, 2))
        ]
        results = pool().run("losses_testkit.jobs:run_loss", jobs)
        for result in results:
            close(result["value"], value)
        for index, expected in enumerate(gradients):
            close(torch.cat([result["pred"][index] for result in results]) / 2, expected)

    def test_ddp(self, case: Case) -> None:
        """Wrapped with a model, each rank's gradients are the average of those that the ranks would have alone."""
        parts = [case.inputs(3, seed) for seed in (0, 1)]
        alone = [ScaledLoss(case.build()).gradients(prepared(inputs, torch.float32)) for inputs in parts]
        averaged = [torch.stack(both).mean(0) for both in zip(*(gradients for _, gradients in alone), strict=True)]
        loss = case.build()
        jobs = [{"config": loss.to_config(), "state": loss.state_dict(), "inputs": inputs} for inputs in parts]
        results = pool().run("losses_testkit.jobs:run_ddp", jobs)
        for (value, gradients), (expected, _) in zip(results, alone, strict=True):
            torch.testing.assert_close(value, expected)
            torch.testing.assert_close(gradients, averaged)

    def test_avg_factor_is_summed_over_the_ranks(self, case: Case) -> None:
        if not case.distributed or not case.avg_factor:
            pytest.skip(case.why or "takes no avg_factor")
        inputs = case.inputs(5)
        value, _ = run(case.build(), prepared(inputs), avg_factor=7, reduction_override="mean")
        loss = case.build(sync_dist=True)
        jobs = [
            {
                "config": loss.to_config(),
                "state": loss.state_dict(),
                "inputs": shard,
                "keywords": {"avg_factor": factor, "reduction_override": "mean"},
                "compiled": False,
            }
            for shard, factor in zip(shards(inputs, (2, 3)), (3, torch.tensor(4.0)), strict=True)
        ]
        for result in pool().run("losses_testkit.jobs:run_loss", jobs):
            close(result["value"], value)

    def test_without_sync_dist_nothing_communicates(self, case: Case) -> None:
        loss = case.build()
        job = {"config": loss.to_config(), "state": loss.state_dict(), "inputs": case.inputs(3)}
        for result in pool().run("losses_testkit.jobs:run_loss", [{**job, "keywords": {}, "compiled": False}] * 2):
            assert result["forward"] == result["backward"] == []


def _learned_gradients(case: Case, inputs: Inputs) -> list[Tensor]:
    loss = case.build().double()
    learned = list(loss.parameters())
    if not learned:
        return []
    ready = prepared(inputs)
    value = loss(ready.pred, ready.target, **ready.call)
    return list(torch.autograd.grad(value, learned, materialize_grads=True))
