"""Attention transfer: `AttentionLoss`."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from losses_core import ConfigError, InputError
from losses_distill import AttentionLoss
from losses_distill.functional import attention_loss
from losses_testkit.runs import saved_floats

from .test_feature_loss import pair


def test_equals_the_published_code():
    student, teacher = pair(3, 4, 5, 6, teacher=(3, 7, 5, 6))
    maps = [F.normalize(x.square().mean(1).flatten(1)) for x in (student, teacher)]
    torch.testing.assert_close(AttentionLoss()(student, teacher), (maps[0] - maps[1]).square().mean())
    norms = torch.linalg.vector_norm(maps[0] - maps[1], dim=1)
    torch.testing.assert_close(AttentionLoss(mode="paper")(student, teacher, reduction_override="none"), norms)


@pytest.mark.parametrize("mode", ["code", "paper"])
@pytest.mark.parametrize("p", [0.5, 1, 2, 5.5])
def test_equal_features_cost_zero(mode, p):
    student, _ = pair(3, 4, 5, 6)
    loss = AttentionLoss(p=p, mode=mode)(student, student.detach())
    loss.backward()
    assert abs(loss.item()) < 1e-6
    assert student.grad.isfinite().all()


def test_features_are_pooled_before_the_map():
    student, teacher = pair(2, 3, 6, 4, teacher=(2, 5, 3, 8))
    expected = AttentionLoss(resize=None)(F.avg_pool2d(student, (2, 1)), F.avg_pool2d(teacher, (1, 2)))
    torch.testing.assert_close(AttentionLoss()(student, teacher), expected)
    with pytest.raises(InputError, match=r"\(2, 3, 6, 4\).*\(2, 5, 3, 8\).*resize='min'"):
        AttentionLoss(resize=None)(student, teacher)


@pytest.mark.parametrize("mode", ["code", "paper"])
def test_stages_are_summed(mode):
    stages = [pair(2, 3, 4, 4, teacher=(2, 5, 4, 4)), pair(2, 6, 2, 2, seed=1)]
    students, teachers = ([s for s, _ in stages], [t for _, t in stages])
    loss = AttentionLoss(mode=mode)
    torch.testing.assert_close(loss(students, teachers), sum(loss(s, t) for s, t in stages))
    unit = loss(tuple(students), tuple(teachers), reduction_override="none")
    assert unit.shape == (2,)
    torch.testing.assert_close(loss(students, teachers, weight=torch.tensor([0.0, 2.0])), unit[1])
    with pytest.raises(InputError, match="as many stages in target as in pred, 2; got 1"):
        loss(students, teachers[:1])
    with pytest.raises(InputError, match="stages"):
        attention_loss([], [])


def test_only_what_has_locations_has_a_map():
    with pytest.raises(InputError, match=r"locations.*\(2, 4\)"):
        AttentionLoss()(torch.zeros(2, 4), torch.zeros(2, 4))
    with pytest.raises(InputError, match="weight of shape"):
        AttentionLoss()(torch.zeros(2, 4, 3, 3), torch.zeros(2, 4, 3, 3), weight=torch.ones(2, 3, 3))
    with pytest.raises(InputError, match="mode: expected one of 'code', 'paper'"):
        attention_loss(torch.zeros(2, 4, 3, 3), torch.zeros(2, 4, 3, 3), mode="papers")
    with pytest.raises(ConfigError, match="p: expected a number > 0"):
        AttentionLoss(p=0)


@pytest.mark.parametrize("p", [0.1, 0.5, 1, 1.5, 2, 3, 16, 100])
@pytest.mark.parametrize("mode", ["code", "paper"])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_any_power_is_finite(p, mode, scale):
    student, teacher = pair(2, 3, 4, 4)
    student = (student * scale).detach()
    student[:, :, 0] = 0  # locations without activation
    student[:, 1] = 0
    student.requires_grad_()
    value = AttentionLoss(p=p, mode=mode)(student, teacher)
    (gradient,) = torch.autograd.grad(value, student)
    assert value.isfinite()
    assert gradient.isfinite().all()
    assert not gradient[:, 1].any()


@pytest.mark.parametrize("p", [0.5, 2, 16])
def test_a_map_knows_no_scale(p):
    student, teacher = pair(2, 3, 4, 4, dtype=torch.float64)
    loss = AttentionLoss(p=p)
    torch.testing.assert_close(loss(student * 1e5, teacher * 1e-5), loss(student, teacher))


def test_keeps_the_features_only():
    student, teacher = pair(2, 256, 16, 16)
    with saved_floats() as saved:
        AttentionLoss()(student, teacher)
    assert sum(saved.values()) <= 1.05 * student.nbytes
