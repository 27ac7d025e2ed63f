"""Attention transfer: `AttentionLoss`."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from losses_core import ConfigError, InputError
from losses_core._memory import PeakMemory
from losses_distill import AttentionLoss
from losses_distill.functional import attention_loss
from losses_testkit.runs import saved_floats

from .test_feature_loss import pair


def test_equals_the_published_code():
    student, teacher = pair(3, 4, 5, 6, teacher=(3, 7, 5, 6))
    maps = [F.normalize(x.square().mean(1).flatten(1)) for x in (student, teacher)]
    squared = (maps[0] - maps[1]).square()
    torch.testing.assert_close(AttentionLoss()(student, teacher), squared.mean())
    units = AttentionLoss()(student, teacher, reduction_override="none")
    torch.testing.assert_close(units, squared.view(3, 5, 6))
    torch.testing.assert_close(AttentionLoss(reduction="sum")(student, teacher), squared.sum())
    norms = torch.linalg.vector_norm(maps[0] - maps[1], dim=1)
    torch.testing.assert_close(AttentionLoss(mode="paper")(student, teacher, reduction_override="none"), norms)


@pytest.mark.parametrize("mode", ["code", "paper"])
@pytest.mark.parametrize("p", [0.5, 1, 2, 5.5])
def test_the_loss_of_equal_features_is_zero(mode, p):
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


def test_the_unit_is_a_location():
    student, teacher = pair(2, 5, 3, 4)
    loss = AttentionLoss(reduction="none")
    assert loss(student, teacher).shape == (2, 3, 4)
    assert loss(*pair(2, 7, 3)).shape == (2, 7)
    assert loss(*pair(2, 3, 4, 5, 6)).shape == (2, 4, 5, 6)
    assert loss([student], [teacher]).shape == (2,)
    torch.testing.assert_close(loss([student], [teacher]), loss(student, teacher).mean((1, 2)))
    assert AttentionLoss(mode="paper")(student, teacher, reduction_override="none").shape == (2,)
    weighted = AttentionLoss()(student, teacher, weight=torch.tensor([0.0, 3.0]))
    torch.testing.assert_close(weighted, 3 * loss(student, teacher)[1].sum() / 24)


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
    for shape in ((), (2,)):
        with pytest.raises(InputError, match=r"\(N, D\), \(N, L, C\) or \(N, C, \*S\)"):
            AttentionLoss()(torch.zeros(shape), torch.zeros(shape))
    with pytest.raises(InputError, match=r"expected weight of shape \(2,\)"):
        AttentionLoss()(torch.zeros(2, 4, 3, 3), torch.zeros(2, 4, 3, 3), weight=torch.ones(3))
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


def test_saves_the_features_only():
    student, teacher = pair(2, 256, 16, 16)
    with saved_floats() as saved:
        AttentionLoss()(student, teacher)
    assert sum(saved.values()) <= 1.05 * student.nbytes


@pytest.mark.parametrize("options", [{}, {"p": 3}, {"p": 1, "mode": "paper"}], ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shape", [(64, 256, 92, 92), (2, 256, 64, 64, 64), (256, 1024, 512)], ids=str)
def test_peak_memory(options, dtype, shape):
    student, teacher = (torch.empty(shape, dtype=dtype, device="meta") for _ in range(2))
    student.requires_grad_()
    with PeakMemory() as memory:
        AttentionLoss(**options)(student, teacher).backward()
    assert memory.peak <= 1.5 * student.nbytes
    assert student.grad.dtype == dtype


@pytest.mark.parametrize("p", [0.5, 1, 2, 3])
def test_strides_change_nothing(p):
    student, teacher = pair(3, 6, 5, 4)
    loss = AttentionLoss(p=p)
    expected = torch.autograd.grad(loss(student, teacher), student)
    last = student.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(loss(last, teacher), last), expected)
    tokens = student.detach().flatten(2).mT.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(tokens, teacher.flatten(2).mT), tokens)
    torch.testing.assert_close(gradient.mT.unflatten(2, (5, 4)), expected[0])
