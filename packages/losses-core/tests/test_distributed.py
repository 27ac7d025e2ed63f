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
    for value, gradient, second in _run("all_reduce_sum", tensors):
        torch.testing.assert_close(value, total)
        torch.testing.assert_close(gradient, 2 * total * (1 + 2 + 3))
        torch.testing.assert_close(second, torch.full_like(total, 2 * (1 + 2 + 3) ** 2))


def test_reduce_mean():
    for value, *_ in _run("reduce_mean", [torch.tensor(float(rank)) for rank in range(3)]):
        assert value == 1


@pytest.mark.parametrize("sizes", [(2, 0, 3), (1, 1, 1), (0, 0, 0), (4, 1)], ids=str)
def test_gather_cat_of_uneven_shards_and_its_gradient(sizes):
    tensors = [torch.randn(size, 2, dtype=torch.float64) for size in sizes]
    whole, factor = torch.cat(tensors), sum(rank + 1 for rank in range(len(sizes)))
    for rank, (value, gradient, second) in enumerate(_run("gather_cat", tensors)):
        torch.testing.assert_close(value, whole)
        torch.testing.assert_close(gradient, 2 * tensors[rank] * factor)
        torch.testing.assert_close(second, torch.full_like(gradient, 2 * (rank + 1) * factor))


def test_one_collective_makes_all_quotients_global():
    """The gradient, averaged over the ranks, is that of the quotient of the sums; the value is that quotient."""
    numerators = [torch.tensor([2.0, 3.0, 5.0]), torch.tensor([1.0, 0.0, 4.0]), torch.tensor([0.5, 0.25, 1.0])]
    # counts that float32 cannot add up; a plain number; none at all
    denominators = [[torch.tensor(2**24), torch.tensor(1), torch.tensor(1)], [3, 0, 1], [None] * 3]
    jobs = [{"parts": [(numerators[term][rank], denominators[term][rank]) for term in range(3)]} for rank in range(3)]
    whole = [2**24 + 2, 4, 1]
    for values, gradients, collectives in pool().run("losses_testkit.jobs:finish", jobs):
        for value, gradient, numerator, denominator in zip(values, gradients, numerators, whole, strict=True):
            torch.testing.assert_close(value, numerator.sum() / denominator, rtol=0, atol=0)
            torch.testing.assert_close(gradient / 3, torch.tensor(1 / denominator))
        assert collectives == 1


def test_ranks_compare_what_they_sum_under_debug():
    def found(*names):
        return pool().run("losses_testkit.jobs:compare", [{"names": list(own)} for own in names])

    assert found(("ce", "dice"), ("ce", "dice")) == [("", [2.0, 2.0])] * 2
    for other in (("ce",), ("dice", "ce"), ("ce", "dice", "focal")):
        (first, _), (second, _), (third, _) = found(("ce", "dice"), other, ("ce", "dice"))
        assert "rank 0 sums ce, dice; other losses on rank 1. Every rank must call the same" in first
        assert f"rank 1 sums {', '.join(other)}; other losses on rank 0, 2." in second
        assert "other losses on rank 1." in third


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
