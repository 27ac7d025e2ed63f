"""Distillation of channels: `CWDLoss`, `PKDLoss`."""

from __future__ import annotations

import contextlib

import pytest
import torch
import torch.nn.functional as F

from losses_core import ConfigError, InputError, _blocks
from losses_core.kernels import use_definitions
from losses_distill import CWDLoss, KnowledgeDistillationLoss, PKDLoss, functional
from losses_distill.functional import pkd_loss
from losses_testkit.runs import saved_floats

from .test_feature_loss import pair

BOTH = pytest.mark.parametrize("context", [contextlib.nullcontext, use_definitions])


def cwd_loss(*arguments, **options):
    """The unreduced loss by the public function."""
    return functional.cwd_loss(*arguments, **options).value


def _gradient(value, student):
    return torch.autograd.grad(value.sum(), student)[0]


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_cwd_is_the_divergence_of_the_positions(temperature):
    student, teacher = pair(2, 5, 3, 4, dtype=torch.float64)
    log_p, q = (x.flatten(2) / temperature for x in (student, teacher))
    log_p, q = log_p.log_softmax(2), q.softmax(2)
    expected = temperature**2 * (q * (q.log() - log_p)).sum() / (2 * 5)
    actual = CWDLoss(temperature)(student, teacher)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(_gradient(actual, student), _gradient(expected, student))
    rows = [x.flatten(2).flatten(0, 1) for x in (student, teacher)]
    torch.testing.assert_close(actual, KnowledgeDistillationLoss(temperature)(*rows))


def test_cwd_of_tokens_has_the_channels_last():
    student, teacher = pair(2, 5, 12, dtype=torch.float64)
    tokens = cwd_loss(student.mT, teacher.mT)
    assert tokens.shape == (2, 5)
    torch.testing.assert_close(tokens, cwd_loss(student.unflatten(2, (3, 4)), teacher.unflatten(2, (3, 4))))


def test_cwd_weights_samples_and_channels_but_no_positions():
    student, teacher = pair(2, 5, 3, 4, dtype=torch.float64)
    loss, unit = CWDLoss(), cwd_loss(student, teacher)
    weight = torch.rand(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loss(student, teacher, weight=weight), (unit * weight).sum() / 10)
    torch.testing.assert_close(loss(student, teacher, weight=weight[:, 0]), (unit * weight[:, :1]).sum() / 10)
    for shape in ((2, 3, 4), (2, 1, 3, 4), (2, 5, 3, 4), (5,)):
        with pytest.raises(InputError, match=r"CWDLoss: expected weight of shape \(2,\) or \(2, 5\).*softmax"):
            loss(student, teacher, weight=torch.ones(shape))
    with pytest.raises(InputError, match=r"features with locations.*\(2, 5\)"):
        loss(student[..., 0, 0], teacher[..., 0, 0])
    with pytest.raises(InputError, match="resize='min'"):
        loss(student, teacher[..., :2])
    with pytest.raises(InputError, match="student_channels=5, teacher_channels=3"):
        loss(student, teacher[:, :3])
    with pytest.raises(ConfigError, match="temperature"):
        CWDLoss(0)


def test_a_poisoned_sample_of_weight_zero_does_not_reach_the_adapter():
    for loss, weight in ((CWDLoss(1.0, 3, 4), torch.tensor([1.0, 0.0])), (PKDLoss(3, 4), torch.tensor([1.0, 0.0]))):
        student, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, 4, 4, 4)
        student[1] = torch.nan
        loss(student, teacher, weight=weight).backward()
        assert all(p.grad.isfinite().all() and p.grad.any() for p in [loss.adapter.weight])
    loss = CWDLoss(1.0, 3, 4)
    loss(student, teacher, weight=torch.tensor([[1.0, 0, 1, 1], [0, 0, 0, 0]])).backward()
    assert loss.adapter.weight.grad.isfinite().all()


@BOTH
def test_pkd_is_one_minus_the_correlation(context):
    student, teacher = pair(4, 5, 3, 2, dtype=torch.float64)
    rows = [x.transpose(0, 1).flatten(1) for x in (student, teacher)]
    correlations = torch.stack([torch.corrcoef(torch.stack(both))[0, 1] for both in zip(*rows, strict=True)])
    n = rows[0].shape[1]
    expected = (n - 1) / n * (1 - correlations.mean())
    with context():
        actual = PKDLoss()(student, teacher)
        torch.testing.assert_close(actual, expected)
        torch.testing.assert_close(_gradient(actual, student), _gradient(expected, student))
        torch.testing.assert_close(actual, PKDLoss(reduction="none")(student, teacher).mean())


@BOTH
def test_pkd_does_not_change_with_scale_and_offset(context):
    student, teacher = pair(4, 5, 3, 2, dtype=torch.float64)
    scale, offset = torch.rand(2, 5, 1, 1, dtype=torch.float64) + 0.5
    with context():
        expected = PKDLoss()(student, teacher)
        torch.testing.assert_close(PKDLoss()(student * scale + 100 * offset, teacher * 3 - 7), expected)
        assert abs(PKDLoss()(teacher * scale + offset, teacher).item()) < 1e-12


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_pkd_of_constant_channels(context, dtype):
    student, teacher = (x.detach().clone() for x in pair(4, 5, 3, 2, dtype=dtype))
    student[:, 0], student[:, 1] = 7.3, 7.3 + 1e-6 * student[:, 1]  # exactly, and up to a 1e-7 of it
    teacher[:, 2] = 0
    student[:, 3], teacher[:, 3] = 5, -5
    student.requires_grad_()
    with context():
        unit = pkd_loss(student, teacher)
        value = PKDLoss()(student, teacher)
        gradient = _gradient(value, student)
    n = 24
    torch.testing.assert_close(unit.sum((0, 2, 3))[:4], torch.tensor([0.5, 0.5, 0.5, 0.0], dtype=dtype) * (n - 1))
    torch.testing.assert_close(value, unit.mean())
    assert not gradient[:, [0, 1, 3]].any()
    assert gradient[:, 2].abs().max() < 1e-6  # the mean square of what is standardized is constant
    assert gradient[:, 4].any()


@BOTH
def test_pkd_far_from_zero(context):
    """Moments about 0 would cancel."""
    student, teacher = (x.detach() for x in pair(8, 3, 5, 5))
    far = (student + 300).requires_grad_()
    exact = pkd_loss(far.detach().double(), teacher.double()).mean()
    with context():
        torch.testing.assert_close(PKDLoss()(far, teacher).double(), exact, rtol=1e-5, atol=1e-6)


@BOTH
def test_pkd_elements_of_weight_zero_do_not_enter_the_statistics(context):
    student, teacher = pair(4, 5, 3, 2, dtype=torch.float64)
    for weight, kept in (
        (torch.tensor([1.0, 0.0, 1.0, 1.0]), lambda x: x[[0, 2, 3]]),
        (torch.tensor([[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]).expand(4, 3, 2), lambda x: x[:, :, :2]),
    ):
        poisoned = student.detach().clone()
        poisoned[
            (weight == 0).reshape(4, 1, *weight.shape[1:]).expand_as(poisoned) if weight.ndim > 1 else weight == 0
        ] = torch.nan
        poisoned.requires_grad_()
        part = kept(student.detach()).clone().requires_grad_()
        with context():
            expected = PKDLoss(reduction="sum")(part, kept(teacher))
            actual = PKDLoss(reduction="sum")(poisoned, teacher, weight=weight)
            torch.testing.assert_close(actual, expected)
            gradient = _gradient(actual, poisoned)
            torch.testing.assert_close(kept(gradient), _gradient(expected, part))
            mean = PKDLoss()(poisoned, teacher, weight=weight)
        assert gradient.isfinite().all()
        torch.testing.assert_close(mean, expected / student.numel())  # the denominator stays
    weight = torch.rand(4, 5, 3, 2, dtype=torch.float64) + 0.1
    torch.testing.assert_close(
        PKDLoss(reduction="none")(student, teacher, weight=weight), pkd_loss(student, teacher) * weight
    )


@BOTH
def test_pkd_of_one_element_and_of_none(context):
    with context():
        for n in (0, 1):
            student, teacher = (x[:n] for x in pair(1, 3))
            value = PKDLoss()(student, teacher)
            assert value == 0
            assert not _gradient(value, student).any()


@BOTH
def test_pkd_shows_nan(context):
    student, teacher = pair(4, 3, 2, 2)
    with torch.no_grad():
        student[0, 1, 0, 0] = torch.nan
    with context():
        value = PKDLoss()(student, teacher)
        gradient = _gradient(value, student)
    assert value.isnan()
    assert gradient.isnan().any((0, 2, 3)).tolist() == [False, True, False]


@pytest.mark.parametrize("shape", [(4, 5, 3, 2), (4, 6, 5), (7, 5), (2, 5, 2, 2, 3)], ids=str)
@pytest.mark.parametrize("block", [3, 17])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_pkd_in_blocks(shape, block, dtype, monkeypatch):
    student, teacher = pair(*shape, dtype=dtype)
    with use_definitions():
        expected = PKDLoss()(student, teacher)
        wanted = _gradient(expected, student)
    monkeypatch.setattr(_blocks, "CPU_BLOCK", block)
    actual = PKDLoss()(student, teacher)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(_gradient(actual, student), wanted)


def test_pkd_saves_the_features_alone():
    student, teacher = pair(4, 64, 16, 16)
    with saved_floats() as saved:
        PKDLoss()(student, teacher)
    assert saved.keys() == {x.untyped_storage().data_ptr() for x in (student, teacher)}


def test_pkd_refuses_what_does_not_fit():
    student, teacher = pair(4, 5, 3, 2)
    with pytest.raises(InputError, match="resize='min'"):
        PKDLoss()(student, teacher[..., :1])
    with pytest.raises(InputError, match="expected weight"):
        PKDLoss()(student, teacher, weight=torch.ones(3))
    with pytest.raises(ConfigError, match="eps"):
        PKDLoss(eps=0)
    with pytest.raises(TypeError, match="counted"):
        PKDLoss()(student, teacher, counted=None)


def test_cwd_equals_a_loop_of_softmaxes_in_half_precision():
    student, teacher = pair(2, 3, 8, 8, dtype=torch.bfloat16)
    expected = F.kl_div(
        student.float().flatten(2).log_softmax(2), teacher.float().flatten(2).softmax(2), reduction="none"
    ).sum()
    torch.testing.assert_close(CWDLoss(reduction="sum")(student, teacher), expected)
