"""The operators that a compiler does not look into, and the losses around them, called as they are."""

import math

import pytest
import torch

from losses_core.utils import host
from losses_seg import _opaque
from losses_seg._mining import hardest, kth_largest, rule
from losses_seg._mining_host import traced_binary, traced_labels
from losses_seg.functional import ohem_binary_loss, ohem_cross_entropy_loss

torch.manual_seed(0)
X, KEY = torch.randn(2, 3, 4, 5), torch.randint(1 << 20, (2, 3, 20), dtype=torch.int32)
LABELS = torch.randint(3, (2, 4, 5)).index_fill(2, torch.tensor([1]), 255)
MASK, SKIP = torch.rand(2, 4, 5) > 0.5, torch.rand(2, 4, 5) > 0.8
WEIGHT = torch.tensor([0.0, 1.0, 2.0])
LOSS = torch.rand(50)

CALLS = {
    "softmax": (_opaque.softmax_on_host, (X, None)),
    "softmax, ignored": (_opaque.softmax_on_host, (X, (LABELS == 255).unsqueeze(1))),
    "softmax of many classes": (_opaque.softmax_on_host, (torch.randn(2, 40, 3), None)),
    "rank over the batch": (_opaque.rank_on_host, (KEY, None, False, True, None)),
    "rank of each image": (_opaque.rank_on_host, (KEY, (KEY & 1).to(torch.uint8), True, False, [0, 2])),
    "rank in float64": (_opaque.rank_on_host, (KEY.long(), None, True, False, None)),
    "hard labels": (_opaque.hard_labels_on_host, (X, LABELS, SKIP, WEIGHT, 255, 0.4, 9, None)),
    "hard labels, empty": (_opaque.hard_labels_on_host, (X[:0], LABELS[:0], None, None, 255, 0.4, None, 0.5)),
    "hard binary": (_opaque.hard_binary_on_host, (X[:, 0], MASK.long(), SKIP, 255, 0.4, 9, None)),
    "hard binary, soft": (_opaque.hard_binary_on_host, (X[:, 0], MASK * 0.7, None, 255, 0.4, None, 0.3)),
    "hardest": (_opaque.hardest_on_host, (LOSS, 0.9, 20, None)),
    "hardest part": (_opaque.hardest_on_host, (LOSS, math.inf, None, 0.25)),
    "distance": (_opaque.squared_distance_on_host, (MASK, [1.0, 0.5], torch.float64)),
    "sort": (_opaque.sort_rows, (KEY[0],)),
}


@pytest.mark.parametrize("name", CALLS)
def test_says_of_shapes_and_memory_what_is_so(name):
    operator, arguments = CALLS[name]
    torch.library.opcheck(operator, arguments, test_utils=("test_schema", "test_faketensor"))


def run(function, x, *arguments, **options):
    pred = x.clone().requires_grad_()
    value, normalizer, _ = function(pred, *arguments, **options)
    gradient = torch.autograd.grad(value, pred, torch.linspace(1, 2, value.numel()).view(value.shape))[0]
    return value.detach(), normalizer.to(value.dtype), gradient


RULES = {"above a floor": (0.7, 5), "the hardest": (0.999, 30), "a part": (None, 0.25), "all": (0.5, 1000)}


@pytest.mark.parametrize("skip", [None, SKIP], ids=["", "skip"])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["", "weight"])
@pytest.mark.parametrize("name", RULES)
def test_labels(name, weight, skip, monkeypatch):
    thresh, kept = RULES[name]
    found = run(traced_labels, X, LABELS, skip, weight, 255, rule(thresh, kept, None))
    monkeypatch.setattr(host, "on_host", lambda *_: False)
    options = {"thresh": thresh, "min_kept": kept, "class_weight": weight, "skip": skip}
    torch.testing.assert_close(found, run(ohem_cross_entropy_loss, X, LABELS, **options))


@pytest.mark.parametrize("skip", [None, SKIP], ids=["", "skip"])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("name", RULES)
def test_binary(name, soft, skip, monkeypatch):
    thresh, kept = RULES[name]
    target = (MASK * (0.7 if soft else 1.0)).masked_fill(LABELS == 255, 255)
    found = run(traced_binary, X[:, 0], target, skip, 255, rule(thresh, kept, None))
    monkeypatch.setattr(host, "on_host", lambda *_: False)
    options = {"thresh": thresh, "min_kept": kept, "skip": skip}
    torch.testing.assert_close(found, run(ohem_binary_loss, X[:, 0], target, **options))


@pytest.mark.parametrize("kept", [1, 20, 49, 60, 0.1, 1.0])
@pytest.mark.parametrize("thresh", [0.5, None])
def test_the_limit_decides_as_the_kth_largest_does(kept, thresh):
    valid, by = torch.rand(50) > 0.2, rule(thresh, kept, None)
    own = torch.where(valid, LOSS, -torch.inf)
    limits = hardest(LOSS, valid, by), kth_largest(own, by.min_kept)
    easy = [valid & (by.floor >= LOSS) & (limit > LOSS) for limit in limits]
    assert torch.equal(*easy)
