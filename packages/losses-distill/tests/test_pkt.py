"""Probabilistic knowledge transfer: `PKTLoss`."""

from __future__ import annotations

import contextlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from losses_core import ConfigError, InputError
from losses_core.kernels import use_definitions
from losses_distill import PKTLoss
from losses_distill.functional import pkt_loss
from losses_testkit.runs import saved_floats

from .test_feature_loss import pair


def test_equals_the_formula_with_the_diagonal():
    student, teacher = pair(6, 5, teacher=(6, 3), dtype=torch.float64)
    p, q = (
        (torch.nn.functional.cosine_similarity(x.unsqueeze(0), x.unsqueeze(1), dim=2) + 1) / 2
        for x in (student, teacher)
    )
    p, q = p / p.sum(1, keepdim=True), q / q.sum(1, keepdim=True)
    expected = (q * torch.log((q + 1e-7) / (p + 1e-7))).mean()
    torch.testing.assert_close(PKTLoss()(student, teacher), expected)
    torch.testing.assert_close(*(torch.autograd.grad(v, student)[0] for v in (PKTLoss()(student, teacher), expected)))


def test_reductions():
    student, teacher = pair(6, 5)
    unit = PKTLoss(reduction="none")(student, teacher)
    assert unit.shape == (6, 6)
    torch.testing.assert_close(PKTLoss()(student, teacher), unit.sum() / 36)
    torch.testing.assert_close(PKTLoss(reduction="batchmean")(student, teacher), unit.sum() / 6)
    with pytest.raises(ConfigError, match="'batchmean'"):
        PKTLoss(reduction="average")


def test_equal_features_give_zero():
    student, _ = pair(6, 5)
    value = PKTLoss()(student, 7 * student.detach())
    value.backward()
    assert abs(value.item()) < 1e-7
    assert student.grad.abs().max() < 1e-6


def test_a_zero_row_is_like_no_other_and_gets_no_gradient():
    student, teacher = pair(4, 5)
    rows = student.detach().clone()
    rows[1] = 0
    rows.requires_grad_()
    value = pkt_loss(rows, teacher)
    assert value.isfinite().all()
    (gradient,) = torch.autograd.grad(value.sum(), rows)
    assert gradient.isfinite().all()
    assert not gradient[1].any()
    # all its similarities are 1/2, its own included
    q = (torch.nn.functional.normalize(teacher) @ torch.nn.functional.normalize(teacher).T + 1) / 2
    q = q / q.sum(1, keepdim=True)
    torch.testing.assert_close(value[1], q[1] * ((q[1] + 1e-7) / (0.25 + 1e-7)).log())


def test_opposite_rows_are_finite():
    student = torch.tensor([[1.0, 0.3], [-1.0, -0.3], [2.0, 0.6]], requires_grad=True)
    value = PKTLoss()(student, torch.tensor([[1.0], [1.0], [-1.0]]))
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()


def test_shapes():
    student, teacher = pair(4, 3, 2, teacher=(4, 7))
    torch.testing.assert_close(PKTLoss()(student, teacher), PKTLoss()(student.flatten(1), teacher))
    with pytest.raises(InputError, match=r"\(4, 3, 2\).*\(2, 7\)"):
        PKTLoss()(student, teacher[:2])
    with pytest.raises(InputError, match=r"PKTLoss: expected weight of the loss's shape \(4, 4\).*got \(3,\)"):
        PKTLoss()(student, teacher, weight=torch.ones(3))
    for shape in ((), (4,)):
        with pytest.raises(InputError, match=r"PKTLoss: expected pred of shape \(N, D\)"):
            PKTLoss()(torch.zeros(shape), torch.zeros(shape))
    with pytest.raises(ConfigError, match="eps: expected a number > 0"):
        PKTLoss(eps=0)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 7), scale=st.floats(1e-2, 1e2), seed=st.integers(0, 99))
def test_ignores_scale_and_order(n, scale, seed):
    student, teacher = pair(n, 4, seed=seed, dtype=torch.float64)
    value = pkt_loss(student, teacher)
    torch.testing.assert_close(pkt_loss(student * scale, teacher), value)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(pkt_loss(student[order], teacher[order]), value[order][:, order])
    assert (value.sum(1) > -1e-6).all()  # each row is a divergence, but for eps


def test_saves_the_embeddings_alone():
    embeddings = pair(256, 512)
    with saved_floats() as saved:
        PKTLoss()(*embeddings)
    assert saved.keys() == {x.untyped_storage().data_ptr() for x in embeddings}


@pytest.mark.parametrize("shape", [(5,), (5, 5)])
def test_a_weight_applies_to_anchors_or_pairs(shape):
    student, teacher = pair(5, 6, dtype=torch.float64)
    weight = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight[1] = 0
    unit = pkt_loss(student, teacher)
    expected = (unit * (weight if weight.ndim == 2 else weight.unsqueeze(1))).sum()
    for reduction, denominator in (("mean", 25), ("batchmean", 5), ("sum", 1)):
        value = PKTLoss(reduction=reduction)(student, teacher, weight=weight)
        torch.testing.assert_close(value, expected / denominator)
    (gradient,) = torch.autograd.grad(value, student)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, student)[0])
    assert gradient[1].any()  # a sample of weight 0 is no anchor, but a neighbor of the others


@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4], [0, 0, 0, 1, 2], [0]], ids=str)
@pytest.mark.parametrize("loss", [PKTLoss(), PKTLoss(eps=1e-3, reduction="batchmean")], ids=str)
def test_kernel_equals_definition(loss, rows):
    student, teacher = (x.detach()[rows].requires_grad_() for x in pair(5, 6, dtype=torch.float64))
    values = []
    for context in (contextlib.nullcontext, use_definitions):
        with context():
            value = loss(student, teacher)
            values.append((value, *torch.autograd.grad(value, student, torch.tensor(3.0, dtype=torch.float64))))
    torch.testing.assert_close(*values)
