"""Similarity-preserving distillation: `SPLoss`."""

from __future__ import annotations

import contextlib

import pytest
import torch
import torch.nn.functional as F

from losses_core import ConfigError, InputError
from losses_core.kernels import use_definitions
from losses_distill import SPLoss
from losses_distill.functional import sp_loss
from losses_testkit.runs import saved_floats

from .test_feature_loss import pair

BOTH = pytest.mark.parametrize("context", [contextlib.nullcontext, use_definitions])


@BOTH
def test_equals_the_textbook(context):
    student, teacher = pair(6, 3, 2, 2, teacher=(6, 5), dtype=torch.float64)
    rows = [F.normalize(x.flatten(1) @ x.flatten(1).T, p=2, dim=1) for x in (student, teacher)]
    expected = torch.linalg.matrix_norm(rows[0] - rows[1]) ** 2 / 36
    with context():
        actual = SPLoss()(student, teacher)
        torch.testing.assert_close(actual, expected)
        torch.testing.assert_close(*(torch.autograd.grad(value, student)[0] for value in (actual, expected)))


def test_the_l1_norm_is_another_loss():
    """A second positional argument of ``F.normalize`` is p, not the axis."""
    student, teacher = (x.detach() for x in pair(64, 128))
    rows = [F.normalize(x @ x.T, 1) for x in (student, teacher)]
    by_l1 = (rows[0] - rows[1]).square().mean()
    torch.testing.assert_close(rows[0].abs().sum(1), torch.ones(64))
    assert abs(by_l1 / SPLoss()(student, teacher) - 1) > 0.1


@BOTH
def test_a_row_of_zeros_stays_zero(context):
    student, teacher = pair(5, 4, dtype=torch.float64)
    with torch.no_grad():
        student[1] = 0
    with context():
        unit = sp_loss(student, teacher)
        (gradient,) = torch.autograd.grad(unit.sum(), student)
    assert gradient.isfinite().all()
    assert gradient.abs().max() < 1e3
    expected = F.normalize(teacher @ teacher.T)[1].square()
    torch.testing.assert_close(unit[1], expected)


@BOTH
def test_scale_does_not_count(context):
    student, teacher = pair(5, 4, dtype=torch.float64)
    with context():
        torch.testing.assert_close(sp_loss(100 * student, teacher / 3), sp_loss(student, teacher))
        assert sp_loss(teacher, 2 * teacher).max() < 1e-20


def test_one_sample_gives_zero():
    student, teacher = pair(1, 5)
    value = SPLoss()(student, teacher)
    value.backward()
    assert value == 0
    assert student.grad.abs().max() < 1e-6


def test_a_weight_applies_to_anchors_and_pairs():
    student, teacher = pair(5, 6, dtype=torch.float64)
    unit = sp_loss(student, teacher)
    weight = torch.tensor([1.0, 0.0, 2.0, 0.5, 1.0], dtype=torch.float64)
    value = SPLoss()(student, teacher, weight=weight)
    torch.testing.assert_close(value, (unit * weight.unsqueeze(1)).sum() / 25)
    assert torch.autograd.grad(value, student)[0][1].any()  # no anchor, but a partner
    pairs = torch.rand(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(SPLoss()(student, teacher, weight=pairs), (unit * pairs).sum() / 25)


def test_saves_the_features_alone():
    features = pair(64, 512)
    with saved_floats() as saved:
        SPLoss()(*features)
    assert saved.keys() == {x.untyped_storage().data_ptr() for x in features}


def test_bad_input():
    student, teacher = pair(4, 3)
    with pytest.raises(InputError, match=r"\(4, 3\).*\(3, 3\)"):
        SPLoss()(student, teacher[:3])
    with pytest.raises(InputError, match="expected weight"):
        SPLoss()(student, teacher, weight=torch.ones(3))
    with pytest.raises(ConfigError, match="eps"):
        SPLoss(eps=-1)
