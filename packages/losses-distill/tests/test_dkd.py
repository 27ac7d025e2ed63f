"""Decoupled distillation: `DKDLoss`."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import losses_core._blocks
from losses_core import InputError
from losses_core._memory import PeakMemory
from losses_core.kernels import use_definitions
from losses_core.utils import warn
from losses_distill import DKDLoss
from losses_distill.functional import dkd_loss

from .test_kd import INF, LAYOUTS, kd, pair


def dkd(student, teacher, labels, **options):
    """The unreduced loss by the public function."""
    return dkd_loss(student, teacher, labels=labels, **options).value


def parts(student, teacher, labels, temperature):
    tckd = dkd(student, teacher, labels, temperature=temperature, alpha=1.0, beta=0.0)
    nckd = dkd(student, teacher, labels, temperature=temperature, alpha=0.0, beta=1.0)
    return tckd, nckd


@settings(max_examples=40, deadline=None)
@given(classes=st.integers(3, 9), temperature=st.floats(0.5, 10), scale=st.floats(0.1, 5), seed=st.integers(0, 99))
def test_distillation_is_the_sum_of_its_parts(classes, temperature, scale, seed):
    student, teacher = pair(4, classes, seed=seed)
    student, teacher = student * scale, teacher * scale
    labels = torch.arange(4) % classes
    tckd, nckd = parts(student, teacher, labels, temperature)
    sure = (teacher / temperature).softmax(1).gather(1, labels.unsqueeze(1)).squeeze(1)
    whole = kd(student, teacher, temperature=temperature)
    torch.testing.assert_close(tckd + (1 - sure) * nckd, whole)
    torch.testing.assert_close(dkd(student, teacher, labels, temperature=temperature), tckd + 8 * nckd)


def test_equal_logits_give_zero():
    student, _ = pair(4, 6, dtype=torch.float32)
    loss = DKDLoss()(student, student.detach(), labels=torch.arange(4))
    loss.backward()
    assert abs(loss.item()) < 1e-5
    assert student.grad.abs().max() < 1e-6


@pytest.mark.parametrize("gap", [160.0, 2000.0])
def test_large_gaps_are_exact(gap):
    """Where the probability of the others is 0 in floating point, their ratios are not."""
    student = torch.tensor([[gap, 1.0, 0.0], [0.0, gap, 1.0]], requires_grad=True)
    teacher = torch.tensor([[gap / 2, 0.0, 2.0], [gap, 0.0, 0.0]])
    labels = torch.tensor([0, 1])
    tckd, nckd = parts(student, teacher, labels, 1.0)

    def log_odds(z):
        return z[0] - np.logaddexp(z[1], z[2])

    rows = [(s[[k, *others]], t[[k, *others]]) for s, t, k, others in (
        (student[0].detach().double().numpy(), teacher[0].double().numpy(), 0, (1, 2)),
        (student[1].detach().double().numpy(), teacher[1].double().numpy(), 1, (0, 2)),
    )]  # fmt: skip
    for i, (s, t) in enumerate(rows):
        a_s, a_t = log_odds(s), log_odds(t)
        q, r = np.exp(-np.logaddexp(0, -a_t)), np.exp(-np.logaddexp(0, a_t))
        true = q * (np.logaddexp(0, -a_s) - np.logaddexp(0, -a_t)) + r * (np.logaddexp(0, a_s) - np.logaddexp(0, a_t))
        hat_q = np.exp(t[1:] - np.logaddexp(*t[1:]))
        others = (hat_q * ((t[1:] - np.logaddexp(*t[1:])) - (s[1:] - np.logaddexp(*s[1:])))).sum()
        np.testing.assert_allclose([tckd[i].item(), nckd[i].item()], [true, others], rtol=1e-5)
    (gradient,) = torch.autograd.grad(dkd(student, teacher, labels, temperature=1.0).sum(), student)
    assert gradient.isfinite().all()
    # teacher and student tell the first row's other classes apart in opposite ways
    assert gradient[0, 1] > 1
    assert gradient[0, 2] < -1


def test_labels_are_required_and_checked():
    student, teacher = pair(4, 6)
    with pytest.raises(TypeError, match="labels="):
        DKDLoss()(student, teacher)
    with pytest.raises(InputError, match=r"labels of shape \(4,\).*\(4, 6\)"):
        DKDLoss()(student, teacher, labels=torch.zeros(5, dtype=torch.long))
    with pytest.raises(InputError, match="integer"):
        DKDLoss()(student, teacher, labels=torch.zeros(4))
    with pytest.raises(InputError, match="class_dim"):
        DKDLoss()(*pair(2, 3, 4), labels=torch.zeros(2, 3, dtype=torch.long))
    with pytest.raises(InputError, match=r"\(4, 6\).*\(4, 5\)"):
        DKDLoss()(student, teacher[:, :5], labels=torch.zeros(4, dtype=torch.long))


def test_ignored_labels_leave_the_mean_but_not_the_batch_mean():
    student, teacher = pair(4, 6)
    labels = torch.tensor([0, 255, 2, 255])
    unit = dkd(student[[0, 2]], teacher[[0, 2]], labels[[0, 2]])
    loss = DKDLoss(ignore_index=255)
    torch.testing.assert_close(loss(student, teacher, labels=labels), unit.mean())
    torch.testing.assert_close(loss(student, teacher, labels=labels, reduction_override="batchmean"), unit.sum() / 4)
    torch.testing.assert_close(DKDLoss()(student, teacher, labels=labels, ignore_index=255), unit.mean())


def test_dense_logits_per_position():
    student, teacher = pair(2, 5, 3, 4)
    labels = torch.randint(5, (2, 3, 4), generator=torch.Generator().manual_seed(0))
    unit = DKDLoss(reduction="none")(student, teacher, labels=labels)
    one = dkd(student[1, :, 2, 3].unsqueeze(0), teacher[1, :, 2, 3].unsqueeze(0), labels[1, 2, 3].unsqueeze(0))
    torch.testing.assert_close(unit[1, 2, 3], one[0])


def test_two_classes_warn_once_and_equal_plain_distillation(monkeypatch):
    student, teacher = pair(4, 2)
    labels = torch.tensor([0, 1, 1, 0])
    monkeypatch.setattr(warn, "_said", set())
    with pytest.warns(UserWarning, match="two classes") as caught:
        value = DKDLoss(alpha=1.0, beta=8.0, reduction="none")(student, teacher, labels=labels)
    assert caught[0].filename == __file__
    DKDLoss()(student, teacher, labels=labels)  # a second warning would be an error
    torch.testing.assert_close(value, kd(student, teacher))


def test_masked_classes_contribute_nothing():
    """-inf in both logits: at the true class the loss is that of the others, at all others it is 0."""
    inf = float("inf")
    student = torch.tensor([[-inf, 1.0, 2.0, 0.0], [1.0, -inf, -inf, -inf], [1.0, 2.0, -inf, 0.0]], requires_grad=True)
    teacher = torch.tensor([[-inf, 0.0, 3.0, 1.0], [2.0, -inf, -inf, -inf], [0.0, 1.0, -inf, 3.0]])
    labels = torch.tensor([0, 0, 1])
    tckd, nckd = parts(student, teacher, labels, 2.0)
    assert not tckd[:2].any()
    assert nckd[1] == 0
    torch.testing.assert_close(nckd[0], kd(student[:1, 1:], teacher[:1, 1:], temperature=2.0)[0])
    kept = [0, 1, 3]
    for whole, part in zip((tckd, nckd), parts(student[2:, kept], teacher[2:, kept], labels[2:], 2.0), strict=True):
        torch.testing.assert_close(whole[2:], part)
    for detach in (True, False):
        given = teacher.clone().requires_grad_(not detach)
        value = DKDLoss(teacher_detach=detach)(student, given, labels=labels)
        for gradient in torch.autograd.grad(value, [student] if detach else [student, given]):
            assert gradient.isfinite().all()
            assert not gradient[1].any()
            assert gradient[0, 1:].all()


def test_a_student_that_rules_out_what_the_teacher_does_not_is_infinitely_wrong():
    student, teacher = torch.tensor([[0.0, -float("inf"), 1.0]]), torch.tensor([[0.0, 1.0, 2.0]])
    for label in range(3):
        assert dkd(student, teacher, torch.tensor([label])).isposinf()
        assert dkd(teacher, student, torch.tensor([label])).isfinite()


def test_one_class_gives_zero():
    student, teacher = pair(4, 1)
    value = DKDLoss()(student, teacher, labels=torch.zeros(4, dtype=torch.long))
    value.backward()
    assert value == 0
    assert not student.grad.any()


def test_a_temperature_can_learn():
    student, teacher = pair(4, 6)
    temperature = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)

    def function(x, t):
        return DKDLoss(temperature=7.0)(x, teacher, labels=torch.arange(4), temperature=t)

    torch.testing.assert_close(function(student, temperature), function(student, 2.0))
    assert torch.autograd.gradcheck(function, (student, temperature))


def test_mutual_learning_gives_both_a_gradient():
    student, teacher = pair(4, 6)
    teacher.requires_grad_()
    loss = DKDLoss(teacher_detach=False)

    def function(x, t):
        return loss(x, t, labels=torch.tensor([0, 1, -100, 2]))

    assert torch.autograd.gradcheck(function, (student, teacher))
    assert torch.autograd.gradgradcheck(function, (student, teacher))


def test_nan_propagates():
    student, teacher = pair(2, 3)
    for place in ((0, 0), (0, 2)):
        spoiled = student.detach().clone()
        spoiled[place] = float("nan")
        value = dkd(spoiled, teacher, torch.tensor([0, 0]))
        assert value.isnan().tolist() == [True, False]


def test_labels_outside_the_classes_are_an_error():
    student, teacher = pair(4, 6)
    for wrong in (6, -1):
        labels = torch.tensor([0, -100, wrong, 2])
        message = rf"DKDLoss: expected labels with class indices in \[0, 6\).*got {wrong} at \[2\]"
        with pytest.raises(InputError, match=message):
            DKDLoss()(student, teacher, labels=labels)
        DKDLoss(ignore_index=wrong)(student, teacher, labels=labels.clamp(min=min(wrong, 0)))


def test_no_label_is_ignored_with_none():
    student, teacher = pair(4, 6)
    labels = torch.tensor([0, 2, 5, 1])
    expected = DKDLoss()(student, teacher, labels=labels)
    for loss in (DKDLoss(ignore_index=None), DKDLoss(ignore_index=2)):
        torch.testing.assert_close(loss(student, teacher, labels=labels, ignore_index=None), expected)


@pytest.mark.parametrize("shape", [(), (4,)])
def test_logits_without_classes_are_an_error(shape):
    with pytest.raises(InputError, match="DKDLoss: expected pred with a batch and a class axis"):
        DKDLoss()(torch.zeros(shape), torch.zeros(shape), labels=torch.zeros(shape, dtype=torch.long))


@pytest.mark.filterwarnings("ignore:DKDLoss with two classes")  # said once in a process
@pytest.mark.parametrize("block", [1 << 16, 64, 7])
@pytest.mark.parametrize("options", [{}, {"alpha": 0.0, "temperature": 0.5}, {"beta": 0.0}], ids=str)
@pytest.mark.parametrize(("shape", "class_dim"), LAYOUTS, ids=str)
def test_kernel_equals_definition(shape, class_dim, options, block, monkeypatch):
    monkeypatch.setattr(losses_core._blocks, "CPU_BLOCK", block)
    student, teacher = pair(*shape)
    axis = 1 if class_dim is None else class_dim
    labels = torch.arange(student.numel() // shape[axis]).view(student.movedim(axis, -1).shape[:-1]) % shape[axis]
    labels[0] = -100
    loss = DKDLoss(class_dim=class_dim, **options)
    for keywords in ({}, {"weight": torch.linspace(0, 2, shape[0])}, {"reduction_override": "none"}):
        values = []
        for context in (contextlib.nullcontext, use_definitions):
            with context():
                value = loss(student, teacher, labels=labels, **keywords)
                incoming = torch.linspace(1, 2, value.numel(), dtype=torch.float64).view(value.shape)
                values.append((value, *torch.autograd.grad(value, student, incoming)))
        torch.testing.assert_close(*values)


@pytest.mark.parametrize("temperature", [0.1, 1.0, 4.0, 20.0])
@pytest.mark.parametrize("kind", ["far", "nearly equal", "offset", "confident"])
def test_the_kernel_is_as_precise_as_the_definition_and_never_negative(kind, temperature):
    student, teacher = (x.detach() for x in pair(64, 500, dtype=torch.float32))
    labels = torch.arange(64)
    if kind == "nearly equal":
        teacher = student + 1e-3 * torch.randn(64, 500, generator=torch.Generator().manual_seed(0))
    elif kind == "offset":
        student, teacher = student + 1000, teacher - 1000
    elif kind == "confident":
        student[labels, labels] += 40
        teacher = student + teacher / 100
    exact = dkd(student.double(), teacher.double(), labels, temperature=temperature)
    value = dkd(student, teacher, labels, temperature=temperature)
    with use_definitions():
        by_definition = dkd(student, teacher, labels, temperature=temperature)
    assert (value - exact).abs().max() <= 4 * (by_definition - exact).abs().max() + 1e-9
    assert (value >= 0).all()
    assert (by_definition >= 0).all()


@pytest.mark.parametrize("gap", [1e-7, 1e-4])
def test_tiny_losses_are_not_negative(gap):
    student, _ = pair(256, 10, dtype=torch.float32)
    student = student.detach()
    teacher = student + gap * torch.randn(256, 10, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(256) % 10
    assert (dkd(student, teacher, labels) >= 0).all()
    for part in parts(student, teacher, labels, 4.0):
        assert (part >= 0).all()


@pytest.mark.parametrize("others", [[0.0, 1.0], [-INF, -INF]])
def test_a_teacher_that_masks_all_other_classes_has_one_part(others):
    student = torch.tensor([[1.0, *(float(x) for x in (0.5, -1.0))]], dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([[0.0, *others]], dtype=torch.float64)
    labels = torch.tensor([0])
    tckd, nckd = parts(student, teacher, labels, 1.0)
    if others[0] == -INF:
        assert nckd == 0
        torch.testing.assert_close(tckd, -student.log_softmax(1)[:, 0])
    values = []
    for context in (contextlib.nullcontext, use_definitions):
        with context():
            value = DKDLoss()(student, teacher, labels=labels)
            values.append((value, *torch.autograd.grad(value, student)))
    torch.testing.assert_close(*values)


@pytest.mark.parametrize(
    ("shape", "class_dim"), [((4300, 32000), None), ((8, 150, 340, 340), None), ((4, 1050, 32000), -1)], ids=str
)
def test_peak_memory_is_at_most_one_and_a_half_logits(shape, class_dim):
    student, teacher = (torch.empty(shape, dtype=torch.bfloat16, device="meta") for _ in range(2))
    labels = torch.empty(student.movedim(class_dim or 1, -1).shape[:-1], dtype=torch.long, device="meta")
    with PeakMemory() as memory:
        DKDLoss(class_dim=class_dim)(student.requires_grad_(), teacher, labels=labels).backward()
    assert memory.peak <= 1.5 * student.nbytes
