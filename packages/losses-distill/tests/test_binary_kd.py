"""Distillation of independent logits: `BinaryKDLoss`."""

from __future__ import annotations

import contextlib

import pytest
import torch
import torch.nn.functional as F

from losses_core import ConfigError, InputError
from losses_core.kernels import use_definitions
from losses_distill import BinaryKDLoss
from losses_distill.functional import binary_kd_loss
from losses_testkit.runs import saved_floats

from .test_kd import pair

BOTH = pytest.mark.parametrize("context", [contextlib.nullcontext, use_definitions])


@BOTH
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_binary_cross_entropy_has_the_same_gradient(context, temperature):
    student, teacher = pair(5, 10)
    probability = torch.sigmoid(teacher / temperature)
    cross = F.binary_cross_entropy_with_logits(student / temperature, probability, reduction="none") * temperature**2
    entropy = F.binary_cross_entropy(probability, probability, reduction="none") * temperature**2
    with context():
        value = binary_kd_loss(student, teacher, temperature=temperature)
        torch.testing.assert_close(value, cross - entropy)
        torch.testing.assert_close(*(torch.autograd.grad(v.sum(), student)[0] for v in (value, cross)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_equal_logits_give_exactly_zero(dtype):
    teacher = torch.linspace(-60, 60, 241).to(dtype)
    student = teacher.clone().requires_grad_()
    for temperature in (1.0, 0.7):
        value = binary_kd_loss(student, teacher, temperature=temperature)
        (gradient,) = torch.autograd.grad(value.sum(), student)
        assert not value.any()
        assert not gradient.any()


@pytest.mark.parametrize("sign", [1, -1])
def test_certain_logits_keep_their_precision(sign):
    """In float32 the textbook's terms cancel where both are certain."""
    teacher = torch.tensor([8.0, 12.0, 15.0, 30.0, 90.0]) * sign
    student = (teacher + 0.3).requires_grad_()
    exact = binary_kd_loss(student.detach().double().requires_grad_(), teacher.double())
    with use_definitions():
        wide = student.detach().double().requires_grad_()
        (wanted,) = torch.autograd.grad(binary_kd_loss(wide, teacher.double()).sum(), wide)
    value = binary_kd_loss(student, teacher)
    (gradient,) = torch.autograd.grad(value.sum(), student)
    moderate = slice(0, 4)
    torch.testing.assert_close(value[moderate].double(), exact[moderate].detach(), rtol=1e-4, atol=0)
    torch.testing.assert_close(gradient[moderate].double(), wanted[moderate], rtol=1e-4, atol=0)
    p, q = torch.sigmoid(student.detach()), torch.sigmoid(teacher)  # the mistake this guards against
    plain = (q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log())[:3]
    assert ((plain / exact[:3] - 1).abs().max() > 0.01) or not plain.isfinite().all()


@BOTH
def test_large_logits(context):
    student = torch.tensor([2000.0, -2000.0, 6e4, 0.0], requires_grad=True)
    teacher = torch.tensor([-2000.0, 2000.0, 6e4, 6e4])
    with context():
        value = binary_kd_loss(student, teacher)
        (gradient,) = torch.autograd.grad(value.sum(), student)
    torch.testing.assert_close(value, torch.tensor([2000.0, 2000.0, 0.0, 0.6931472]))
    torch.testing.assert_close(gradient, torch.tensor([1.0, -1.0, 0.0, -0.5]))


@BOTH
def test_classes_masked_in_both(context):
    student = torch.tensor([-torch.inf, 1.0], requires_grad=True)
    with context():
        value = binary_kd_loss(student, torch.tensor([-torch.inf, 1.0]))
        (gradient,) = torch.autograd.grad(value.sum(), student)
    assert not value.any()
    assert not gradient.any()


@BOTH
def test_nan_is_visible(context):
    student, teacher = torch.tensor([torch.nan, 1.0, 1.0], requires_grad=True), torch.tensor([1.0, torch.nan, 2.0])
    with context():
        value = binary_kd_loss(student, teacher)
        (gradient,) = torch.autograd.grad(value.sum(), student)
    assert value.isnan().tolist() == [True, True, False]
    assert gradient.isnan().tolist() == [True, True, False]


def test_a_mask_of_anchors_and_the_number_of_positives():
    student, teacher = pair(2, 6, 4)
    mask = torch.tensor([[1.0, 0, 0, 0.5, 0, 0], [0, 0, 0, 0, 0, 1]], dtype=torch.float64)
    unit = binary_kd_loss(student, teacher)
    value = BinaryKDLoss()(student, teacher, weight=mask, avg_factor=mask.sum())
    torch.testing.assert_close(value, (unit * mask.unsqueeze(2)).sum() / 2.5)


def test_a_learned_temperature_gets_a_gradient():
    student, teacher = pair(3, 5)
    temperature = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: binary_kd_loss(student.detach(), teacher, temperature=t), temperature)
    torch.testing.assert_close(
        BinaryKDLoss()(student, teacher, temperature=torch.tensor(1.5)), BinaryKDLoss(1.5)(student, teacher)
    )


def test_saves_the_logits_alone():
    student, teacher = pair(64, 512, dtype=torch.float32)
    with saved_floats() as saved:
        BinaryKDLoss()(student, teacher)
    assert saved.keys() == {x.untyped_storage().data_ptr() for x in (student, teacher)}


def test_bad_input():
    with pytest.raises(InputError, match=r"\(2, 3\).*\(3,\)"):
        BinaryKDLoss()(torch.zeros(2, 3), torch.zeros(3))
    with pytest.raises(InputError, match="temperature"):
        BinaryKDLoss()(torch.zeros(2), torch.zeros(2), temperature=0)
    with pytest.raises(ConfigError, match="temperature"):
        BinaryKDLoss(0)
