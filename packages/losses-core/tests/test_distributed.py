"""The collectives, with three real processes."""

from __future__ import annotations

import pytest
import torch

from losses_testkit.ranks import Pool, pool

JOB = "losses_testkit.jobs:call_function"


def _run(name, tensors):
    return pool().run(JOB, [{"name": name, "tensor": tensor} for tensor in tensors])


def test_all_reduce_sum_and_its_gradient():
    tensors = [torch.randn(2, 3, dtype=torch.float64) for _ in range(3)]
    total = sum(tensors)
    for value, gradient in _run("all_reduce_sum", tensors):
        torch.testing.assert_close(value, total)
        torch.testing.assert_close(gradient, 2 * total * (1 + 2 + 3))


def test_reduce_mean():
    for value, _ in _run("reduce_mean", [torch.tensor(float(rank)) for rank in range(3)]):
        assert value == 1


@pytest.mark.parametrize("sizes", [(2, 0, 3), (1, 1, 1), (0, 0, 0), (4, 1)], ids=str)
def test_gather_cat_of_uneven_shards_and_its_gradient(sizes):
    tensors = [torch.randn(size, 2, dtype=torch.float64) for size in sizes]
    whole, factor = torch.cat(tensors), sum(rank + 1 for rank in range(len(sizes)))
    for rank, (value, gradient) in enumerate(_run("gather_cat", tensors)):
        torch.testing.assert_close(value, whole)
        torch.testing.assert_close(gradient, 2 * tensors[rank] * factor)


def test_a_rank_that_dies_makes_the_others_fail_instead_of_hanging():
    own = Pool(collective=10)
    try:
        # rank 0 has answered by then: its collective failed
        with pytest.raises(AssertionError, match=r"rank 1 died .*; before it: \[\d"):
            own.run("losses_testkit.jobs:die", [{}] * 3)
    finally:
        own.close()


def test_a_job_that_fails_is_reported_with_its_traceback():
    with pytest.raises(AssertionError, match="has no attribute 'nothing'"):
        _run("nothing", [torch.zeros(1)] * 2)
