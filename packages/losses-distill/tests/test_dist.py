"""Distillation by correlation: `DISTLoss`."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch

from losses_core import ConfigError, InputError
from losses_core.kernels import use_definitions
from losses_distill import DISTLoss
from losses_distill.functional import dist_loss
from losses_testkit.runs import saved_floats

from .test_kd import pair


def test_equals_numpy_correlations():
    student, teacher = pair(6, 5)
    p, q = (x.detach().softmax(1).numpy() for x in (student, teacher))
    rows = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p, q, strict=True)])
    columns = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T, strict=True)])
    np.testing.assert_allclose(DISTLoss(beta=2.0, gamma=0.5)(student, teacher).item(), 2 * rows + 0.5 * columns)


def test_equal_logits_give_zero():
    student, _ = pair(6, 5, dtype=torch.float32)
    loss = DISTLoss()(student, student.detach())
    loss.backward()
    assert abs(loss.item()) < 1e-6
    assert student.grad.abs().max() < 1e-6


def test_dense_logits_are_rows_of_positions():
    student, teacher = pair(2, 5, 3, 2)
    flat = (x.permute(0, 2, 3, 1).reshape(-1, 5) for x in (student, teacher))
    torch.testing.assert_close(DISTLoss()(student, teacher), DISTLoss()(*flat))


def test_belongs_to_the_batch():
    student, teacher = pair(6, 5)
    loss = DISTLoss()
    assert loss(student, teacher, reduction_override="sum") == loss(student, teacher)
    with pytest.raises(InputError, match="reduction: expected one of 'mean', 'sum'"):
        loss(student, teacher, reduction_override="none")
    with pytest.raises(ConfigError, match="reduction"):
        DISTLoss(reduction="none")
    with pytest.raises(InputError, match="DISTLoss: avg_factor"):
        loss(student, teacher, avg_factor=2)
    with pytest.raises(ConfigError, match="DISTLoss: avg_factor"):
        DISTLoss(avg_factor=2)
    with pytest.raises(InputError, match="DISTLoss: takes no sample weight"):
        loss(student, teacher, weight=torch.ones(6))


def test_constant_rows_are_excluded():
    student, teacher = pair(4, 5, dtype=torch.float32)
    for side in (0, 1):
        logits = [student.detach().clone(), teacher.clone()]
        logits[side][1] = 7.0  # a uniform row
        logits[0].requires_grad_()
        kept = [x[[0, 2, 3]] for x in logits]
        actual = dist_loss(*logits, gamma=0.0)
        torch.testing.assert_close(actual, dist_loss(*kept, gamma=0.0))
        (gradient,) = torch.autograd.grad(actual, logits[0])
        assert not gradient[1].any()


def test_constant_columns_are_excluded():
    student, teacher = pair(4, 5, dtype=torch.float64)
    student = student.detach().clone()
    student[:, 2] = -1e4  # a probability of 0 in each row
    student.requires_grad_()
    p, q = student.detach().softmax(1).numpy(), teacher.softmax(1).numpy()
    columns = [1 - np.corrcoef(p[:, c], q[:, c])[0, 1] for c in (0, 1, 3, 4)]
    value = dist_loss(student, teacher, beta=0.0)
    np.testing.assert_allclose(value.item(), np.mean(columns))
    assert torch.autograd.grad(value, student)[0].isfinite().all()


def test_constant_logits_give_zero():
    student = torch.zeros(4, 5, requires_grad=True)
    loss = DISTLoss()(student, torch.randn(4, 5))
    loss.backward()
    assert loss == 0
    assert not student.grad.any()


def test_one_row_has_no_columns():
    student, teacher = pair(1, 5)
    torch.testing.assert_close(DISTLoss()(student, teacher), DISTLoss(gamma=0.0)(student, teacher))


def test_the_threshold_is_wider_in_float32():
    nearly = torch.zeros(1, 1000, dtype=torch.float64)
    nearly[0, 0] = 1e-4  # the centred norm of the probabilities is 1e-7
    teacher = torch.randn(1, 1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert dist_loss(nearly, teacher) > 0.5
    assert dist_loss(nearly.float(), teacher.float()) == 0
    assert dist_loss(nearly, teacher, eps=1e-6) == 0


def test_temperature_of_the_call():
    student, teacher = pair(6, 5)
    torch.testing.assert_close(
        DISTLoss()(student, teacher, temperature=3.0), DISTLoss(temperature=3.0)(student, teacher)
    )
    temperature = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, t: DISTLoss()(x, teacher, temperature=t), (student, temperature))


def test_nan_propagates():
    student, teacher = pair(3, 4)
    student = student.detach().clone()
    student[0, 0] = float("nan")
    assert dist_loss(student, teacher).isnan()


def test_saves_the_logits_alone():
    logits = pair(256, 100, dtype=torch.float32)
    with saved_floats() as saved:
        DISTLoss()(*logits)
    assert saved.keys() == {x.untyped_storage().data_ptr() for x in logits}


@pytest.mark.parametrize("shape", [(), (4,)])
def test_logits_without_classes_are_an_error(shape):
    with pytest.raises(InputError, match="DISTLoss: expected pred with a batch and a class axis"):
        DISTLoss()(torch.zeros(shape), torch.zeros(shape))


@pytest.mark.parametrize("shape", [(6, 5), (1, 5), (5, 1), (2, 5, 3, 2), (0, 4)], ids=str)
@pytest.mark.parametrize("options", [{}, {"gamma": 0.0}, {"beta": 0.0, "temperature": 3.0}], ids=str)
@pytest.mark.parametrize("constant", [False, True])
def test_kernel_equals_definition(shape, options, constant):
    student, teacher = pair(*shape)
    if constant and shape[0] > 1:
        student, teacher = student.detach().clone(), teacher.clone()
        student[1] = 7.0
        teacher[0] = 1.0
        student.requires_grad_()
    values = []
    for context in (contextlib.nullcontext, use_definitions):
        with context():
            value = DISTLoss(**options)(student, teacher)
            values.append((value, *torch.autograd.grad(value, student, torch.tensor(3.0, dtype=torch.float64))))
    torch.testing.assert_close(*values, rtol=1e-7, atol=1e-9)
