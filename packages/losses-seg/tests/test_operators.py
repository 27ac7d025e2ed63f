"""The custom operators: what they tell the compiler of their results, and that they agree with plain operations."""

import math
import subprocess
import sys

import pytest
import torch

from losses_seg import _edt, _ops

torch.manual_seed(0)
VALUES = torch.rand(50).where(torch.rand(50) > 0.2, -1)
MASK = torch.rand(2, 4, 5) > 0.5
LABELS = torch.randint(3, (2, 4, 5))
IGNORED = torch.rand(2, 1, 4, 5) > 0.8

CALLS = {
    "k-th largest": (_ops.kth_largest_op, (VALUES, 20, None, 0.9, None)),
    "k-th largest, a share": (_ops.kth_largest_op, (VALUES, None, 0.25, math.inf, None)),
    "k-th largest of none": (_ops.kth_largest_op, (VALUES[:0], None, 0.25, math.inf, None)),
    "sort of one row": (_ops.sort_rows_op, (torch.randint(1 << 20, (1, 30)),)),
    "sort of rows": (_ops.sort_rows_op, (torch.randint(1 << 20, (3, 30), dtype=torch.int32),)),
    "squared distance": (_ops.squared_distance_op, (MASK, [1.0, 0.5], torch.float64)),
    "boundary distance": (_ops.boundary_distance_op, ([LABELS], 3, None, [1.0, 1.0], 2.0, torch.float32)),
    "boundary distance of masks": (
        _ops.boundary_distance_op,
        ([LABELS, MASK.unsqueeze(1).expand(2, 3, 4, 5)], 3, IGNORED, [1.0, 0.5], 1.5, torch.float64),
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_shapes_and_memory_are_as_declared(name):
    operator, arguments = CALLS[name]
    torch.library.opcheck(operator, arguments, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize("number", [1, 7, 40, 45])
def test_kth_largest(number):
    valid = VALUES[VALUES >= 0].sort(descending=True).values
    expected = valid[number - 1] if number <= len(valid) else torch.tensor(-math.inf)
    assert _ops.kth_largest(VALUES, number, None, math.inf) == expected
    share = min(1, number / len(valid)) - 1e-6
    assert _ops.kth_largest(VALUES, None, share, math.inf) == valid[min(number, len(valid)) - 1]
    assert _ops.kth_largest(VALUES, number, None, float(valid[7])) == (math.inf if number <= 8 else expected)


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("exponent", [2.0, 1.5])
@pytest.mark.parametrize("ignored", [None, IGNORED, IGNORED.expand(2, 3, 4, 5)], ids=["", "ignored", "elements"])
def test_boundary_distance(parts, exponent, ignored, monkeypatch):
    """The distance to the nearest element on the other side that is not ignored, class by class."""
    if parts:
        monkeypatch.setattr(_edt, "_CPU_PART", 1)
    masks = LABELS.unsqueeze(1) == torch.arange(3).view(-1, 1, 1)
    keep = torch.ones_like(masks) if ignored is None else (~ignored).expand_as(masks)
    expected = torch.zeros(2, 3, 4, 5)
    for mask in (masks, MASK.unsqueeze(1).expand_as(masks)):
        for side in (mask, ~mask):
            squared = _ops.squared_distance((side & keep).flatten(0, 1), [1.0, 0.5], torch.float32).view(masks.shape)
            expected += (squared.masked_fill(squared.isinf() | side, 0)) ** (exponent / 2)
    regions = [LABELS, MASK.unsqueeze(1).expand_as(masks)]
    found = _ops.boundary_distance(regions, 3, ignored, [1.0, 0.5], exponent, torch.float32)
    torch.testing.assert_close(found, expected * keep)


def test_the_first_call_imports_no_compiler():
    """It takes seconds, and the first call of a custom operator imports it."""
    code = """
import sys, torch
from losses_seg import BoundaryLoss, HDLoss, LovaszLoss, OHEMBinaryLoss, OHEMCrossEntropyLoss
pred, labels = torch.randn(1, 3, 8, 8, requires_grad=True), torch.randint(3, (1, 8, 8))
for loss in (BoundaryLoss(), HDLoss(), LovaszLoss(), OHEMCrossEntropyLoss()):
    loss(pred, labels).backward()
OHEMBinaryLoss()(pred, (pred > 0).long()).backward()
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=300).returncode == 0
